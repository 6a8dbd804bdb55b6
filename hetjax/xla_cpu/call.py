"""The engine's operations as JAX functions; arguments are those that `hetjax.ops` has checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from hetjax import xla_cpu
from hetjax.core.geometry import Pads, output_size
from hetjax.pack.layout import ChannelLayout
from hetjax.pack.weights import PackedWeights, weight_bytes
from hetjax.xla_cpu import library

STORAGE = "xla_cpu"
CORRECTIONS = 3  # kinds of them: see `relayout`
ACTIVATIONS = (None, "relu", "relu6")


class Consumer(Protocol):
  """Who reads a convolution's values as records under `layout`."""

  inv_beta: Float[Array, ""]
  layout: ChannelLayout
  signed: bool


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


def storage() -> str:
  """Storage of weights prepared for the instruction set in use: "xla_cpu:" and its weight format.

  Raises:
    RuntimeError: the engine is not available.
  """
  return f"{STORAGE}:{xla_cpu.weight_format()}"


def storage_bytes(layout: ChannelLayout, kernel_shape: tuple[int, int, int, int]) -> int:
  """Bytes of a layer's weights in `storage()`.

  Raises:
    RuntimeError: the engine is not available, or the layer is one that it refuses.
  """
  kh, kw, _, n = kernel_shape
  return library.storage_bytes(
    layout.bits_array, np.asarray(layout.palette.levels, np.int32), layout.groups, kh, kw, n
  )


def relayout(weights: PackedWeights) -> PackedWeights:
  """Weights in the engine's storage.

  Args:
    weights: Weights in storage "file".

  Returns:
    Weights in `storage()`: codes uint8[storage_bytes] and corrections int32[3, taps, N], modulo
    2^32: what each tap adds to a signed and to an unsigned accumulator whatever the activations,
    and a tap's whole part of a signed accumulator where all codes are zero.

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
    jax.ShapeDtypeStruct((CORRECTIONS, kh * kw, n), jnp.int32),
  )
  run = jax.ffi.ffi_call("hetjax_relayout", out, vmap_method="sequential")
  prepared, corrections = run(codes, **_layer_attributes(weights), format=xla_cpu.weight_format())
  return dataclasses.replace(weights, codes=prepared, storage=storage(), corrections=corrections)


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
  x: UInt8[Array, "b h w r"] | Float[Array, "b h w c"],
  weights: PackedWeights,
  scale: Float[Array, " n"] | None,
  bias: Float[Array, " n"] | None,
  *,
  signed: bool,
  strides: tuple[int, int],
  padding: Pads,
  kernel_dilation: tuple[int, int],
  inv_beta: Float[Array, ""] | None = None,
  residual: Float[Array, "b ho wo n"] | None = None,
  activation: str | None = None,
  requantize: Sequence[Consumer] = (),
  keep_values: bool = True,
) -> list[Array]:
  """Convolution with weights in `storage()` and all that may follow it, as one custom call.

  See `hetjax.ops.packed_conv` and `hetjax.ops.fused_conv`.

  Args:
    x: Records, or with `inv_beta` float32 values that are quantized on the way in.
    requantize: Who reads the values.

  Returns:
    The values (accumulators without a scale) if they are kept, then one record tensor a reader.

  Raises:
    ValueError: weights in another storage.
    RuntimeError: the engine is not available.
  """
  _ready()
  if weights.storage != storage():
    raise ValueError(
      f"weights must be in storage {storage()!r} for the instruction set in use, "
      f"got {weights.storage!r}"
    )
  kh, kw, _, n = weights.kernel_shape
  size = (x.shape[0], *output_size(x.shape[1:3], (kh, kw), strides, padding, kernel_dilation))
  dtype = jnp.int32 if scale is None else jnp.float32
  outs = [jax.ShapeDtypeStruct((*size, n), dtype)] if keep_values else []
  outs += [jax.ShapeDtypeStruct((*size, r.layout.record_bytes), jnp.uint8) for r in requantize]
  operands = [x, weights.codes, weights.corrections]
  operands += [operand for operand in (scale, bias, inv_beta) if operand is not None]
  levels = [r.layout.palette.levels for r in requantize]
  # Values take the place of the residual; half as much memory is touched so, and that is where the
  # time of such layers goes. XLA copies it first where it is read again or a program's own input.
  in_place = {len(operands): 0} if keep_values and residual is not None else {}
  operands += [] if residual is None else [residual]
  run = jax.ffi.ffi_call(
    "hetjax_conv", outs, vmap_method="sequential", input_output_aliases=in_place
  )
  return run(
    *operands,
    *(r.inv_beta for r in requantize),
    **_layer_attributes(weights),
    format=xla_cpu.weight_format(),
    strides=np.asarray(strides, np.int32),
    padding=np.asarray(padding, np.int32).reshape(-1),
    kernel_dilation=np.asarray(kernel_dilation, np.int32),
    signed=np.bool_(signed),
    epilogue=np.bool_(scale is not None),
    quantize=np.bool_(inv_beta is not None),
    residual=np.bool_(residual is not None),
    keep_values=np.bool_(keep_values),
    activation=np.int32(ACTIVATIONS.index(activation)),
    consumer_bits=_ints(*(r.layout.bits_array for r in requantize)),
    consumer_levels=_ints(*levels),
    consumer_level_counts=_ints([len(each) for each in levels]),
    consumer_signed=_ints([r.signed for r in requantize]),
  )


def _ints(*parts) -> np.ndarray:
  return np.concatenate([np.zeros(0, np.int32), *(np.asarray(p, np.int32) for p in parts)])
