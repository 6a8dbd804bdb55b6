"""The ops' contract: arguments checked once, then handed to the chosen implementation.

All ops work eagerly, under `jit` and under `vmap`. They are inference ops: none is differentiable.
Numbers are defined by docs/arithmetic.md; every implementation returns the same int32 accumulators.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from hetjax.core import geometry
from hetjax.ops import dispatch, reference
from hetjax.pack.layout import ChannelLayout
from hetjax.pack.weights import PackedWeights, weight_bytes
from hetjax.xla_cpu import call as cpu


def _require(name: str, x: Array, dtype, shape: tuple[int | None, ...] | None = None) -> None:
  """Checks dtype and, where given, shape (None matches any extent)."""
  if not hasattr(x, "dtype") or x.dtype != dtype:
    got = getattr(x, "dtype", type(x).__name__)
    raise ValueError(f"{name} must be an array of {jnp.dtype(dtype).name}, got {got}")
  if shape is None:
    return
  if len(x.shape) != len(shape) or any(
    want is not None and want != have for want, have in zip(shape, x.shape, strict=True)
  ):
    want = tuple("any" if v is None else v for v in shape)
    raise ValueError(f"{name} must have shape {want}, got {tuple(x.shape)}")


def _check_weights(weights: PackedWeights, implementation: str) -> None:
  if not isinstance(weights, PackedWeights):
    raise ValueError(f"weights must be PackedWeights, got {type(weights).__name__}")
  if weights.storage == "file":
    size = weight_bytes(weights.layout, weights.kernel_shape)
    _require("codes of weights", weights.codes, jnp.uint8, (size,))
  if weights.storage not in ("file", implementation):
    raise ValueError(
      f"weights were prepared for implementation {weights.storage!r} and cannot run on "
      f"{implementation!r}; prepare them again from the packed file's weights"
    )


def _check_epilogue(scale, bias, n: int) -> None:
  if (scale is None) != (bias is None):
    raise ValueError("scale and bias must be given together, or neither for raw accumulators")
  if scale is not None:
    _require("scale", scale, jnp.float32, (n,))
    _require("bias", bias, jnp.float32, (n,))


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
  _require("x", x, jnp.float32)
  _require("inv_beta", inv_beta, jnp.float32, ())
  if x.ndim < 1 or x.shape[-1] != layout.channels:
    raise ValueError(f"x must end in {layout.channels} channels, got shape {tuple(x.shape)}")
  implementation_ = cpu if chosen == "xla_cpu" else reference
  return implementation_.quantize_pack(x, inv_beta, layout, signed)


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
  _check_weights(weights, chosen)
  a = jnp.asarray(a)
  _require("a", a, jnp.uint8, (None, None, None, weights.layout.record_bytes))
  kh, kw, _, n = weights.kernel_shape
  _check_epilogue(scale, bias, n)
  strides = geometry.pair(strides, "strides")
  dilation = geometry.pair(kernel_dilation, "kernel_dilation")
  pads = geometry.explicit_padding(padding, a.shape[1:3], (kh, kw), strides, dilation)
  window = {"signed": signed, "strides": strides, "padding": pads, "kernel_dilation": dilation}
  if chosen == "xla_cpu":
    if weights.storage == "file":
      weights = cpu.relayout(weights)
    return cpu.conv(a, weights, scale, bias, **window)
  t = reference.conv_accumulator(a, weights, **window)
  return t if scale is None else reference.epilogue(t, scale, bias)


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
  if isinstance(weights, PackedWeights) and weights.kernel_shape[:2] != (1, 1):
    raise ValueError(f"weights of a matmul must be 1x1, got kernel {weights.kernel_shape}")
  a = jnp.asarray(a)
  if a.ndim < 1:
    raise ValueError("a must have at least one axis, the record bytes; got a scalar")
  flat = a.reshape(1, 1, -1, a.shape[-1])
  y = packed_conv(
    flat, weights, scale, bias, signed=signed, padding="VALID", implementation=implementation
  )
  return y.reshape(*a.shape[:-1], y.shape[-1])


def prepare_weights(weights: PackedWeights, implementation: str | None = None) -> PackedWeights:
  """Re-lays packed weights out once for an implementation, as done at load time.

  Args:
    weights: Weights in file storage; prepared ones are returned as they are.
    implementation: See `dispatch.resolve`.

  Returns:
    Weights that ops run without further conversion. The result never reaches a file.
  """
  chosen = dispatch.resolve(implementation)
  _check_weights(weights, chosen)
  if chosen == "reference" or weights.storage == chosen:
    return weights
  return jax.jit(cpu.relayout)(weights)
