"""The ops' contract: arguments checked once, then handed to the chosen implementation.

All ops work eagerly, under `jit` and under `vmap`. They are inference ops: none is differentiable.
Numbers are defined by docs/arithmetic.md; every implementation returns the same int32 accumulators.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from hetjax.ops import dispatch, primitives
from hetjax.ops.checks import (
  check_epilogue,
  check_weights,
  require,
  require_last,
  window_of,
)
from hetjax.pack.layout import ChannelLayout
from hetjax.pack.weights import PackedWeights
from hetjax.xla_cpu import call as cpu


def quantize_pack(
  x: Float[Array, "*b c"],
  inv_beta: Float[Array, ""],
  *,
  layout: ChannelLayout,
  signed: bool,
  implementation: str | None = None,
) -> UInt8[Array, "*b r"]:
  """Quantizes activations and packs them into records, one per position.

  Args:
    x: float32 activations, channels last.
    inv_beta: float32 scalar, the reciprocal of the layer's activation scale beta.
    layout: Precision and packed place of every channel.
    signed: Whether the grid is the odd one around zero or starts at an exact zero.
    implementation: See `dispatch.resolve`.

  Returns:
    uint8 records: segments highest level first, codes least significant bits first, every segment
    zero-padded to whole 32-bit words. NaN becomes code 0, infinities the end codes.

  Raises:
    ValueError: a dtype or shape does not fit.
  """
  chosen = dispatch.resolve(implementation)
  x, inv_beta = jnp.asarray(x), jnp.asarray(inv_beta)
  require("x", x, jnp.float32)
  require("inv_beta", inv_beta, jnp.float32, ())
  if x.ndim < 1 or x.shape[-1] != layout.channels:
    raise ValueError(f"x must end in {layout.channels} channels, got shape {tuple(x.shape)}")
  (records,) = primitives.QUANTIZE_PACK(
    x, inv_beta, layout=layout, signed=bool(signed), implementation=chosen
  )
  return records


def packed_conv(
  a: UInt8[Array, "b h w r"],
  weights: PackedWeights,
  scale: Float[Array, " n"] | None = None,
  bias: Float[Array, " n"] | None = None,
  *,
  signed: bool,
  strides: int | Sequence[int] = 1,
  padding: str | int | Sequence[int | tuple[int, int]] = "SAME",
  kernel_dilation: int | Sequence[int] = 1,
  implementation: str | None = None,
) -> Float[Array, "b ho wo n"] | Int[Array, "b ho wo n"]:
  """2-D convolution of packed activations with packed weights.

  Args:
    a: Activation records of `quantize_pack` under the weights' layout, one per pixel (NHWC).
    weights: Packed kernel, in file storage or prepared for the implementation.
    scale: float32 per output channel, or None.
    bias: float32 per output channel, or None; given with `scale`.
    signed: Whether the activations were packed signed.
    strides: Window strides.
    padding: "SAME", "SAME_LOWER", "VALID" or explicit; out-of-image taps contribute nothing.
    kernel_dilation: Spacing of kernel taps.
    implementation: See `dispatch.resolve`.

  Returns:
    int32 accumulators T if `scale` is None, otherwise float32 `fma(float(T), scale, bias)`.

  Raises:
    ValueError: a dtype, shape or parameter does not fit.
  """
  chosen = dispatch.resolve(implementation)
  check_weights(weights, chosen)
  a = jnp.asarray(a)
  require("a", a, jnp.uint8, (None, None, None, weights.layout.record_bytes))
  kh, kw, _, n = weights.kernel_shape
  check_epilogue(scale, bias, n)
  window = window_of(a.shape[1:3], (kh, kw), strides, padding, kernel_dilation)
  (y,) = primitives.PACKED_LAYER(
    a, weights, scale, bias, signed=bool(signed), window=window, implementation=chosen
  )
  return y


def packed_matmul(
  a: UInt8[Array, "*b r"],
  weights: PackedWeights,
  scale: Float[Array, " n"] | None = None,
  bias: Float[Array, " n"] | None = None,
  *,
  signed: bool,
  implementation: str | None = None,
) -> Float[Array, "*b n"] | Int[Array, "*b n"]:
  """Product of packed activations with a packed matrix (a kernel of shape (1, 1, c, n)).

  Args:
    a: Activation records, any leading shape.
    weights: Packed matrix, in file storage or prepared for the implementation.
    scale: float32 per output channel, or None for raw accumulators.
    bias: float32 per output channel, or None; given with `scale`.
    signed: Whether the activations were packed signed.
    implementation: See `dispatch.resolve`.

  Returns:
    As `packed_conv`, with the leading shape of `a`.
  """
  chosen = dispatch.resolve(implementation)
  check_weights(weights, chosen, matrix=True)
  a = jnp.asarray(a)
  require_last("a", a, jnp.uint8, weights.layout.record_bytes)
  check_epilogue(scale, bias, weights.kernel_shape[3])
  (y,) = primitives.PACKED_LAYER(
    a, weights, scale, bias, signed=bool(signed), window=None, implementation=chosen
  )
  return y


def prepare_weights(weights: PackedWeights, implementation: str | None = None) -> PackedWeights:
  """Re-lays packed weights out once for an implementation, as done at load time.

  Args:
    weights: Weights in file storage; prepared ones are returned as they are.
    implementation: See `dispatch.resolve`.

  Returns:
    Weights that ops run without further conversion. The result never reaches a file.
  """
  chosen = dispatch.resolve(implementation)
  check_weights(weights, chosen)
  if chosen == "reference" or weights.storage != "file":
    return weights
  return _relayout(chosen, cpu.storage() if chosen == "xla_cpu" else chosen)(weights)


@functools.cache
def _relayout(implementation: str, storage: str) -> Callable[[PackedWeights], PackedWeights]:
  """Its relayout, compiled. What it traces depends on the storage in use, which JAX cannot know."""
  del storage
  module = primitives.module_of(implementation)
  return jax.jit(lambda weights: module.relayout(weights))
