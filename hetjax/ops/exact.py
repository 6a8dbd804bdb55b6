"""Integer contractions that are exact although they run on float32 units.

Float32 represents every integer up to 2^24, so a sum of integer products whose magnitudes add up
to less than that is exact in any order. Longer or wider contractions are made in parts of so few
products, which add up in int32.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hetjax.ops.fma import fma

Bilinear = Callable[[Float[Array, "..."], Float[Array, "..."]], Float[Array, "..."]]
_EXACT = (1 << 24) - 1
_LONGEST = 1 << 22


def _length(w: Array) -> int:
  """Products of an output."""
  return math.prod(w.shape[:-1])


def _parts(a: Array, w: Array, most: int) -> Iterator[tuple[Array, Array]]:
  """Operands of at most `most` products an output each, whose contractions add up to the whole."""
  *window, channels, _ = w.shape
  taps = math.prod(window)
  if taps > most:  # a window too large for one channel: all but some of its taps are zeroed
    rows = jnp.arange(taps).reshape(*window, 1, 1)
    for first in range(0, taps, most):
      some = jnp.where((rows >= first) & (rows < first + most), w, 0)
      for c in range(channels):
        yield _of_channels(a, some, c, c + 1)
    return
  count = -(-channels // (most // taps))
  ends = [channels * i // count for i in range(count + 1)]
  for first, last in itertools.pairwise(ends):
    yield _of_channels(a, w, first, last)


def _of_channels(a: Array, w: Array, first: int, last: int) -> tuple[Array, Array]:
  """Input channels `first` to `last` of every group."""
  grouped = a.reshape(*a.shape[:-1], -1, w.shape[-2])[..., first:last]
  return grouped.reshape(*a.shape[:-1], -1), w[..., first:last, :]


def int32_accumulator(
  contract: Bilinear,
  a: Float[Array, "... c"],
  w: Float[Array, "*k g n"],
  *,
  a_max: int,
  w_max: int,
) -> Int[Array, "... n"]:
  """`contract(a, w)` as exact int32.

  Args:
    contract: Bilinear in its two float32 arguments; every output sums products of all taps and of
      the input channels of one group, of which `w` holds g, at most. It is called with fewer
      channels too.
    a: Integers held as float32, magnitudes at most `a_max`.
    w: Integers held as float32, magnitudes at most `w_max`.
    a_max: Largest magnitude in `a`.
    w_max: Largest magnitude in `w`.

  Raises:
    ValueError: more than 2^22 products an output.
  """
  if (length := _length(w)) > _LONGEST:
    raise ValueError(f"a contraction of {length} products is too long (at most {_LONGEST})")
  most = _EXACT // (a_max * w_max)
  if length <= most:
    return contract(a, w).astype(jnp.int32)
  return sum(contract(*part).astype(jnp.int32) for part in _parts(a, w, most))


def scaled_accumulator(
  contract: Bilinear,
  a: Float[Array, ...],
  w: Float[Array, "*k n"],
  scale: Float[Array, " n"],
  bias: Float[Array, " n"],
  *,
  a_max: int,
  w_max: int,
) -> tuple[Float[Array, "*m n"], Float[Array, "*m n"]]:
  """`fma(float32(int32_accumulator(...)), scale, bias)`, and the accumulator itself.

  Differentiable in `a`, `w`, `scale` and `bias` through the former. Gradients are those of
  `contract(a, w * scale) + bias`, the same by bilinearity: the scale meets the small operand there,
  and none of its gradient has to read the outputs. A call that is differentiated leaves the
  rounding of the product and the sum to the compiler, which is faster.
  """
  exact = _length(w) * a_max * w_max <= _EXACT

  def accumulator(a, w):
    if exact:
      return contract(a, w)
    total = int32_accumulator(contract, a, w, a_max=a_max, w_max=w_max)
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
