"""A packed layer with everything that follows it up to the next layers' records, as one op.

    y = fma(float(T), scale, bias) + residual,  activation,  then values and records of y

Every output equals what the single ops give in that order; an implementation may compute it in one
pass over the data. The fusion pass of `hetjax.runtime` writes networks in terms of these.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from hetjax.core import geometry
from hetjax.ops import dispatch, primitives
from hetjax.ops.checks import check_epilogue, check_weights, require, require_last, window_of
from hetjax.ops.primitives import Window
from hetjax.pack.layout import ChannelLayout
from hetjax.pack.weights import PackedWeights

Outputs = tuple[Array | None, tuple[Array, ...]]


@dataclasses.dataclass(frozen=True, eq=False)
class Requantize:
  """How one consumer reads a tensor; a pytree whose only leaf is `inv_beta`.

  Attributes:
    inv_beta: float32[], the reciprocal of the consumer's activation scale.
    layout: Levels of the consumer's input channels (static).
    signed: Whether it reads the signed grid (static).
  """

  inv_beta: Any
  layout: ChannelLayout
  signed: bool


jax.tree_util.register_dataclass(
  Requantize, data_fields=("inv_beta",), meta_fields=("layout", "signed")
)


def fused_conv(
  x: UInt8[Array, "b h w r"] | Float[Array, "b h w c"],
  weights: PackedWeights,
  scale: Float[Array, " n"],
  bias: Float[Array, " n"],
  *,
  signed: bool,
  inv_beta: Float[Array, ""] | None = None,
  strides: int | Sequence[int] = 1,
  padding: str | int | Sequence[int | tuple[int, int]] = "SAME",
  kernel_dilation: int | Sequence[int] = 1,
  residual: Float[Array, "b ho wo n"] | None = None,
  activation: str | None = None,
  requantize: Sequence[Requantize] = (),
  keep_values: bool = True,
  implementation: str | None = None,
) -> tuple[Float[Array, "b ho wo n"] | None, tuple[UInt8[Array, "b ho wo _"], ...]]:
  """2-D convolution of packed activations, its epilogue, and the records that consumers read.

  Args:
    x: uint8 records under the weights' layout if `inv_beta` is None, else float32 values that are
      quantized on the way in.
    weights: As for `packed_conv`.
    scale: float32 per output channel.
    bias: float32 per output channel.
    signed: Of the activations.
    inv_beta: float32 scalar, the reciprocal of the layer's activation scale, or None.
    strides: As for `packed_conv`, like `padding` and `kernel_dilation`.
    residual: float32, added after scale and bias, or None.
    activation: None, "relu" or "relu6", after the residual.
    requantize: One entry per consumer of the result.
    keep_values: Whether the float32 result itself is wanted.
    implementation: See `dispatch.resolve`.

  Returns:
    The float32 values, or None without `keep_values`, and one record tensor per consumer, equal to
    `quantize_pack` of the values.

  Raises:
    ValueError: a dtype, shape or parameter does not fit, or nothing is asked for.
  """
  chosen = dispatch.resolve(implementation)
  check_weights(weights, chosen)
  x = _checked_input(x, weights, inv_beta, ndim=4)
  window = window_of(x.shape[1:3], weights.kernel_shape[:2], strides, padding, kernel_dilation)
  return _fused(
    x, weights, scale, bias, inv_beta, residual, requantize,
    signed=signed, window=window, activation=activation, keep_values=keep_values,
    implementation=chosen,
  )  # fmt: skip


def fused_matmul(
  x: UInt8[Array, "*b r"] | Float[Array, "*b c"],
  weights: PackedWeights,
  scale: Float[Array, " n"],
  bias: Float[Array, " n"],
  *,
  signed: bool,
  inv_beta: Float[Array, ""] | None = None,
  residual: Float[Array, "*b n"] | None = None,
  activation: str | None = None,
  requantize: Sequence[Requantize] = (),
  keep_values: bool = True,
  implementation: str | None = None,
) -> tuple[Float[Array, "*b n"] | None, tuple[UInt8[Array, "*b _"], ...]]:
  """`fused_conv` for a matrix (a kernel of shape (1, 1, c, n)) and any leading shape."""
  chosen = dispatch.resolve(implementation)
  check_weights(weights, chosen, matrix=True)
  x = _checked_input(x, weights, inv_beta)
  return _fused(
    x, weights, scale, bias, inv_beta, residual, requantize,
    signed=signed, window=None, activation=activation, keep_values=keep_values,
    implementation=chosen,
  )  # fmt: skip


def _checked_input(x: Array, weights: PackedWeights, inv_beta, ndim: int | None = None) -> Array:
  x = jnp.asarray(x)
  if inv_beta is None:
    require_last("x", x, jnp.uint8, weights.layout.record_bytes)
  else:
    require("inv_beta", inv_beta, jnp.float32, ())
    require_last("x", x, jnp.float32, weights.layout.channels)
  if ndim is not None and x.ndim != ndim:
    raise ValueError(f"x must be [batch, height, width, channels], got shape {tuple(x.shape)}")
  return x


def _fused(
  x, weights, scale, bias, inv_beta, residual, requantize,
  *, signed, window: Window | None, activation, keep_values, implementation,
) -> Outputs:  # fmt: skip
  outputs = weights.kernel_shape[3]
  if scale is None:
    raise ValueError("scale and bias must be given, got None; packed_conv gives accumulators")
  check_epilogue(scale, bias, outputs)
  if activation not in primitives.ACTIVATIONS:
    raise ValueError(f"activation must be one of {primitives.ACTIVATIONS}, got {activation!r}")
  requantize = tuple(requantize)
  for i, consumer in enumerate(requantize):
    if not isinstance(consumer, Requantize):
      raise ValueError(f"requantize[{i}] must be Requantize, got {type(consumer).__name__}")
    require(f"inv_beta of requantize[{i}]", consumer.inv_beta, jnp.float32, ())
    if consumer.layout.channels != outputs:
      raise ValueError(
        f"layout of requantize[{i}] must have {outputs} channels, got {consumer.layout.channels}"
      )
  if not keep_values and not requantize:
    raise ValueError("requantize must name a consumer where keep_values is False, got none")
  if residual is not None:
    residual = jnp.asarray(residual)
    require("residual", residual, jnp.float32, _output_shape(x, weights, window))
  out = primitives.FUSED_LAYER(
    x, weights, scale, bias, inv_beta, residual, requantize,
    signed=bool(signed), window=window, activation=activation, keep_values=bool(keep_values),
    implementation=implementation,
  )  # fmt: skip
  return (out[0], tuple(out[1:])) if keep_values else (None, tuple(out))


def _output_shape(x: Array, weights: PackedWeights, window: Window | None) -> tuple[int, ...]:
  kh, kw, _, outputs = weights.kernel_shape
  if window is None:
    return (*x.shape[:-1], outputs)
  return (x.shape[0], *geometry.output_size(x.shape[1:3], (kh, kw), *window), outputs)
