"""Integer contractions that are exact although they run on float32 units.

Float32 represents every integer up to 2^24, so a sum of integer products whose magnitudes add up
to less than that is exact in any order. Longer or wider contractions are split into digits of one
operand (or of both), each within that bound, and recombined in int32.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hetjax.ops.fma import fma

Bilinear = Callable[[Float[Array, "..."], Float[Array, "..."]], Float[Array, "..."]]
_EXACT_BITS = 24


def _bits(value: int) -> int:
  """The least b with value <= 2^b."""
  return max(0, (value - 1).bit_length())


def _digits(x: Int[Array, ...], largest: int, width: int) -> list[tuple[Array, int]]:
  """Digits of `width` bits as float32, with their shifts; the last one carries the sign."""
  out, shift, left = [], 0, _bits(largest + 1)
  while left > width:
    out.append((jnp.bitwise_and(jnp.right_shift(x, shift), (1 << width) - 1), shift))
    shift, left = shift + width, left - width
  out.append((jnp.right_shift(x, shift), shift))
  return [(d.astype(jnp.float32), s) for d, s in out]


def int32_accumulator(
  contract: Bilinear,
  a: Float[Array, ...],
  w: Float[Array, ...],
  *,
  length: int,
  a_max: int,
  w_max: int,
) -> Int[Array, ...]:
  """`contract(a, w)` as exact int32.

  Args:
    contract: Bilinear in its two float32 arguments; every output sums `length` products at most.
    a: Integers held as float32, magnitudes at most `a_max`.
    w: Integers held as float32, magnitudes at most `w_max`.
    length: Products per output.
    a_max: Largest magnitude in `a`.
    w_max: Largest magnitude in `w`.

  Raises:
    ValueError: more than 2^22 products an output; no split into digits can be exact then.
  """
  if length * a_max * w_max < 1 << _EXACT_BITS:
    return contract(a, w).astype(jnp.int32)
  room = _EXACT_BITS - _bits(length) - 1
  if room < 1:
    raise ValueError(f"a contraction of {length} products is too long to be exact (at most 2^22)")
  w_width = min(_bits(w_max + 1), max(1, room - 1))
  a_width = max(1, room - w_width)
  total = jnp.int32(0)
  for w_digit, w_shift in _digits(w.astype(jnp.int32), w_max, w_width):
    for a_digit, a_shift in _digits(a.astype(jnp.int32), a_max, a_width):
      part = contract(a_digit, w_digit).astype(jnp.int32)
      total = total + jnp.left_shift(part, a_shift + w_shift)
  return total


def scaled_accumulator(
  contract: Bilinear,
  a: Float[Array, ...],
  w: Float[Array, "*k n"],
  scale: Float[Array, " n"],
  bias: Float[Array, " n"],
  *,
  length: int,
  a_max: int,
  w_max: int,
) -> tuple[Float[Array, "*m n"], Float[Array, "*m n"]]:
  """`fma(float32(int32_accumulator(...)), scale, bias)`, and the accumulator itself.

  Differentiable in `a`, `w`, `scale` and `bias` through the former. Gradients are those of
  `contract(a, w * scale) + bias`, the same by bilinearity: the scale meets the small operand there,
  and none of its gradient has to read the outputs. A call that is differentiated leaves the
  rounding of the product and the sum to the compiler, which is faster.
  """
  exact = length * a_max * w_max < 1 << _EXACT_BITS

  def accumulator(a, w):
    if exact:
      return contract(a, w)
    total = int32_accumulator(contract, a, w, length=length, a_max=a_max, w_max=w_max)
    return total.astype(jnp.float32)

  @jax.custom_vjp
  def scaled(a, w, scale, bias):
    t = accumulator(a, w)
    return fma(t, scale, bias), t

  def backward(kept, gradients):
    return jax.vjp(lambda a, w, scale, bias: contract(a, w * scale) + bias, *kept)[1](gradients[0])

  def forward(a, w, scale, bias):
    # Where it is exact by itself, `contract` is differentiated: it may have a formulation for that.
    t, _ = jax.vjp(accumulator, a, w)
    return (t * scale + bias, t), (a, w, scale, bias)

  scaled.defvjp(forward, backward)
  return scaled(a, w, scale, bias)


def level_limit(pmax: int, *, signed: bool) -> int:
  """Largest magnitude of `core.quantize.accumulator_levels` over all precisions up to pmax."""
  del signed  # 2^(pmax-p) (2^p - 1) is largest at p = pmax for codes and odd levels alike
  return (1 << pmax) - 1
