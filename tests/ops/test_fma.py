"""The epilogue's fused multiply-add against exact rationals, however it is compiled."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax.ops.fma import fma


def rounded(exact: Fraction) -> np.float32:
  """The float32 nearest to `exact`, ties to even."""
  guess = np.float32(float(exact))
  near = [np.nextafter(guess, np.float32(s)) for s in (-np.inf, np.inf)]
  distance = lambda f: (abs(Fraction(float(f)) - exact), int(f.view(np.uint32)) & 1)
  return min([guess, *near], key=distance)


def expected(x, scale, bias) -> np.ndarray:
  fraction = lambda v: Fraction(float(v))
  rows = [
    [
      rounded(fraction(t) * fraction(s) + fraction(b))
      for t, s, b in zip(r, scale, bias, strict=True)
    ]
    for r in np.float32(x).tolist()
  ]
  return np.float32(rows)


@pytest.mark.parametrize("n", [1, 3, 16, 37])
@pytest.mark.parametrize("compiled", [True, False])
def test_random_operands(n, compiled):
  rng = np.random.default_rng(n)
  x = rng.integers(-(2**27), 2**27, (60, n)) >> rng.integers(0, 20, (60, n))
  x = x.astype(np.int32)
  scale = np.float32(rng.normal(size=n) * 2.0 ** rng.integers(-20, 3, n))
  bias = -scale * rng.choice(x.ravel(), n).astype(np.float32)  # cancels: the product's bits show
  run = jax.jit(fma) if compiled else fma
  np.testing.assert_array_equal(run(x, scale, bias), expected(x, scale, bias))


@pytest.mark.parametrize("sign", [1, -1])
def test_sums_that_float64_rounds_to_a_tie(sign):
  """A first rounding to float64 would hide on which side of the tie the sum lies."""
  assert 13325 * 80581 == 2**30 + 1 and 21483 * 49981 == 2**30 - 1
  x = sign * np.int32([[13325, 21483]])
  scale = np.float32([80581 * 2.0**-54, 49981 * 2.0**-54])  # products of 2^-24 (1 +- 2^-30)
  bias = sign * np.float32([1, 1 + 2.0**-23])
  got = jax.jit(fma)(x, scale, bias)
  np.testing.assert_array_equal(got, sign * np.float32([[1 + 2.0**-23, 1 + 2.0**-23]]))
  np.testing.assert_array_equal(got, expected(x, scale, bias))


def test_what_is_not_finite_passes():
  x = np.float32([[1, 2, np.nan, 1]])
  got = jax.jit(fma)(x, np.float32([1, 1, 1, np.inf]), np.float32([np.inf, -np.inf, 0, 0]))
  np.testing.assert_array_equal(got, np.float32([[np.inf, -np.inf, np.nan, np.inf]]))
  huge = jnp.full((1, 1), 2.0**31)
  assert np.isinf(fma(huge, jnp.full(1, 3e38), jnp.zeros(1)))[0, 0]


def test_a_derivative_is_refused():
  with pytest.raises(TypeError, match="no derivative"):
    jax.grad(lambda s: fma(jnp.ones((1, 1)), s, jnp.ones(1)).sum())(jnp.ones(1))


def test_a_symbolic_batch_and_vmap():
  x, scale, bias = np.int32([[5, 7], [9, -3]]), np.float32([0.1, 0.3]), np.float32([0.7, 0.2])
  want = expected(x, scale, bias)
  np.testing.assert_array_equal(jax.vmap(fma, (0, None, None))(x, scale, bias), want)
  (b,) = jax.export.symbolic_shape("b")
  exported = jax.export.export(jax.jit(fma))(jax.ShapeDtypeStruct((b, 2), jnp.int32), scale, bias)
  np.testing.assert_array_equal(exported.call(x, scale, bias), want)
