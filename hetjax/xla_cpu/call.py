"""The engine's operations as JAX functions; arguments are those that `hetjax.ops` has checked."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from hetjax import xla_cpu
from hetjax.core.geometry import Pads, output_size
from hetjax.pack.layout import ChannelLayout
from hetjax.pack.weights import PackedWeights, weight_bytes

STORAGE = "xla_cpu"
BLOCK = 64  # output channels of a block of prepared weights
UNIT_BYTES = 4 * BLOCK


def _record_attributes(layout: ChannelLayout) -> dict:
  return {
    "bits": layout.bits_array,
    "levels": np.asarray(layout.palette.levels, np.int32),
  }


def _layer_attributes(weights: PackedWeights) -> dict:
  kh, kw, _, n = weights.kernel_shape
  return _record_attributes(weights.layout) | {
    "groups": np.int32(weights.layout.groups),
    "kernel": np.asarray((kh, kw, n), np.int32),
  }


def _ready() -> None:
  """Refuses at trace time what the handler would refuse at run time."""
  xla_cpu.active_isa()


def storage_bytes(layout: ChannelLayout, kernel_shape: tuple[int, int, int, int]) -> int:
  """Bytes of a layer's weights in storage "xla_cpu".

  Blocks of 64 output channels hold, per tap and level, units of 256 bytes: four channels, or 32
  channels at 1 bit. A depthwise layer (one channel a group) holds int32 levels [taps, N].
  """
  kh, kw, per_group, n = kernel_shape
  if per_group == 1:
    return 4 * kh * kw * n
  blocks = -(-(n // layout.groups) // BLOCK)
  bits = layout.bits_array.reshape(layout.groups, per_group)
  units = 0
  for level in layout.palette.levels:
    counts = np.count_nonzero(bits == level, axis=1).astype(np.int64)
    units += int(((counts + 31) // 32 if level == 1 else (counts + 3) // 4).sum())
  return kh * kw * blocks * units * UNIT_BYTES


def relayout(weights: PackedWeights) -> PackedWeights:
  """Weights in the engine's storage.

  Args:
    weights: Weights in storage "file".

  Returns:
    Weights in storage "xla_cpu": codes uint8[storage_bytes] and corrections int32[taps, N], what
    each tap adds to a signed accumulator whatever the activations.

  Raises:
    ValueError: another storage, or the byte count does not fit.
    RuntimeError: the engine is not available.
  """
  _ready()
  if weights.storage != "file":
    raise ValueError(f"weights must be in storage 'file', got {weights.storage!r}")
  codes = jnp.asarray(weights.codes)
  expected = (weight_bytes(weights.layout, weights.kernel_shape),)
  if codes.dtype != jnp.uint8 or codes.shape != expected:
    raise ValueError(f"weights must be uint8{list(expected)}, got {codes.dtype}{list(codes.shape)}")
  kh, kw, _, n = weights.kernel_shape
  out = (
    jax.ShapeDtypeStruct((storage_bytes(weights.layout, weights.kernel_shape),), jnp.uint8),
    jax.ShapeDtypeStruct((kh * kw, n), jnp.int32),
  )
  run = jax.ffi.ffi_call("hetjax_relayout", out, vmap_method="sequential")
  prepared, corrections = run(codes, **_layer_attributes(weights))
  return dataclasses.replace(weights, codes=prepared, storage=STORAGE, corrections=corrections)


def quantize_pack(
  x: Float[Array, "*b c"], inv_beta: Float[Array, ""], layout: ChannelLayout, signed: bool
) -> UInt8[Array, "*b r"]:
  """Activation records of float32 values, channels last; see `hetjax.ops.quantize_pack`.

  Raises:
    RuntimeError: the engine is not available.
  """
  _ready()
  out = jax.ShapeDtypeStruct((*x.shape[:-1], layout.record_bytes), jnp.uint8)
  run = jax.ffi.ffi_call("hetjax_quantize_pack", out, vmap_method="sequential")
  return run(x, inv_beta, signed=np.bool_(signed), **_record_attributes(layout))


def conv(
  a: UInt8[Array, "b h w r"],
  weights: PackedWeights,
  scale: Float[Array, " n"] | None,
  bias: Float[Array, " n"] | None,
  *,
  signed: bool,
  strides: tuple[int, int],
  padding: Pads,
  kernel_dilation: tuple[int, int],
) -> Float[Array, "b ho wo n"] | Int[Array, "b ho wo n"]:
  """Convolution of records with weights in storage "xla_cpu"; see `hetjax.ops.packed_conv`.

  Raises:
    ValueError: weights in another storage.
    RuntimeError: the engine is not available.
  """
  _ready()
  if weights.storage != STORAGE:
    raise ValueError(f"weights must be in storage {STORAGE!r}, got {weights.storage!r}")
  kh, kw, _, n = weights.kernel_shape
  size = output_size(a.shape[1:3], (kh, kw), strides, padding, kernel_dilation)
  epilogue = () if scale is None else (scale, bias)
  out = jax.ShapeDtypeStruct((a.shape[0], *size, n), jnp.float32 if epilogue else jnp.int32)
  run = jax.ffi.ffi_call("hetjax_conv", out, vmap_method="sequential")
  return run(
    a,
    weights.codes,
    weights.corrections,
    *epilogue,
    signed=np.bool_(signed),
    strides=np.asarray(strides, np.int32),
    padding=np.asarray(padding, np.int32).reshape(-1),
    kernel_dilation=np.asarray(kernel_dilation, np.int32),
    **_layer_attributes(weights),
  )
