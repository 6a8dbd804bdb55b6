"""Codes against exact rational arithmetic; gradients and noise against their definitions."""

from fractions import Fraction
from math import floor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetjax.core import quantize

BITS = (1, 2, 4, 8)
TINY = float(np.finfo(np.float32).tiny)


def exact_code(x: float, bits: int, signed: bool) -> int:
  """The contract's formula in rational numbers."""
  if abs(x) <= TINY:
    x = 0.0  # subnormals count as zero, and the least normal number with them
  spacing = 2 * Fraction(1, 2 ** (bits - 1))
  offset = Fraction(2 ** (bits - 1)) if signed else Fraction(1, 2)
  u = floor(Fraction(x) / spacing + offset)
  return min(max(u, 0), 2**bits - 1)


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", BITS)
def test_grid_is_the_contracts(bits, signed, xp):
  codes = np.arange(2**bits)
  values = np.asarray(quantize.decode(codes, np.full(codes.shape, bits), signed=signed, xp=xp))
  sigma = 2.0 ** (1 - bits)
  expected = sigma * (2 * codes - (2**bits - 1)) if signed else 2 * sigma * codes
  np.testing.assert_array_equal(values, expected)
  assert values[-1] == float(quantize.grid_top(sigma, signed))
  again = quantize.encode(xp.asarray(values), np.full(codes.shape, bits), signed=signed, xp=xp)
  np.testing.assert_array_equal(np.asarray(again), codes)


@settings(max_examples=300, deadline=None)
@given(
  st.floats(width=32, allow_nan=False, allow_infinity=False),
  st.sampled_from(BITS),
  st.booleans(),
)
def test_codes_are_exact_for_any_float(x, bits, signed):
  got = quantize.encode(np.float32([x]), np.int32([bits]), signed=signed, xp=np)
  assert int(got[0]) == exact_code(x, bits, signed)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("bits", BITS)
def test_ties_and_their_neighbours_take_the_nearest_level_ties_the_higher(bits, signed):
  sigma = 2.0 ** (1 - bits)
  ties = sigma * (np.arange(-3, 2 ** (bits + 1) + 3) - 2**bits)
  ties = ties.astype(np.float32)
  x = np.concatenate([ties, np.nextafter(ties, np.float32(9)), np.nextafter(ties, np.float32(-9))])
  expected = [exact_code(v, bits, signed) for v in x.tolist()]
  bits_ = np.full(x.shape, bits, np.int32)
  np.testing.assert_array_equal(quantize.encode(x, bits_, signed=signed, xp=np), expected)
  jitted = jax.jit(lambda v: quantize.encode(v, bits_, signed=signed))
  np.testing.assert_array_equal(np.asarray(jitted(x)), expected)


@pytest.mark.parametrize("signed", [True, False])
def test_scaled_codes_agree_between_numpy_and_jit_whatever_the_compiler_contracts(signed):
  rng = np.random.default_rng(0)
  bits = rng.choice(BITS, 512).astype(np.int32)
  steps = rng.integers(-600, 600, (2000, 512))
  inv_beta = np.float32(1.0) / np.float32(0.7231)
  # Values on or next to a decision threshold after scaling: where a fused product would show.
  x = (steps / 256 * 0.7231).astype(np.float32)
  expected = quantize.encode(x * inv_beta, bits, signed=signed, xp=np)
  got = jax.jit(lambda x, s: quantize.encode(x * s, bits, signed=signed))(x, inv_beta)
  np.testing.assert_array_equal(np.asarray(got), expected)


def test_subnormals_count_as_zero_before_and_after_scaling():
  x = np.float32([-1e-40, 1e-40, -2e-38, -float.fromhex("0x1.fffffep-126")])
  for inv_scale in (np.float32(1e5), np.float32(0.5)):
    steps = quantize.to_grid(x, inv_scale, np)
    bits = np.full(4, 8, np.int32)
    codes = quantize.encode(steps, bits, signed=True, xp=np).tolist()
    last = 127 if inv_scale > 1 else 128
    assert codes == [128, 128, last, last]
    jitted = jax.jit(
      lambda v, s, bits=bits: quantize.encode(quantize.to_grid(v, s), bits, signed=True)
    )
    assert jitted(x, inv_scale).tolist() == codes


@pytest.mark.parametrize("xp", [np, jnp])
@pytest.mark.parametrize("signed", [True, False])
def test_values_that_are_no_numbers_have_a_stated_code(signed, xp):
  x = xp.asarray(np.float32([np.nan, np.inf, -np.inf]))
  for bits in BITS:
    codes = quantize.encode(x, np.full(3, bits, np.int32), signed=signed, xp=xp)
    assert np.asarray(codes).tolist() == [0, 2**bits - 1, 0]


@pytest.mark.parametrize("signed", [True, False])
def test_accumulator_levels_are_multiples_of_the_finest_step(signed):
  for bits in BITS:
    codes = np.arange(2**bits)
    levels = quantize.accumulator_levels(codes, np.full(codes.shape, bits), 8, signed=signed, xp=np)
    values = quantize.decode(codes, np.full(codes.shape, bits), signed=signed, xp=np)
    np.testing.assert_array_equal(levels * (2.0**-7 if signed else 2.0**-6), values)


def test_straight_through_value_is_exactly_the_quantized_one_and_gradient_that_of_clipping():
  x = jnp.float32([-3.0, -1.9, -0.3, 0.0, 0.26, 1.49, 1.6, 7.0])
  bits = jnp.full(x.shape, 2)
  y, back = jax.vjp(lambda v: quantize.straight_through(v, bits, True), x)
  np.testing.assert_array_equal(y, [-1.5, -1.5, -0.5, 0.5, 0.5, 1.5, 1.5, 1.5])
  np.testing.assert_array_equal(back(jnp.ones_like(x))[0], [0, 0, 1, 1, 1, 1, 0, 0])
  _, back = jax.vjp(lambda v: quantize.straight_through(v, bits, False), x)
  np.testing.assert_array_equal(back(jnp.ones_like(x))[0], [0, 0, 0, 1, 1, 1, 1, 0])


def test_weights_outside_the_range_can_come_back_but_not_leave():
  x = jnp.float32([-3.0, 3.0])
  bits = jnp.full(x.shape, 2)
  _, back = jax.vjp(lambda v: quantize.straight_through(v, bits, True, True), x)
  # Descent moves against the gradient: a positive one brings 3.0 down, a negative one -3.0 up.
  np.testing.assert_array_equal(back(jnp.float32([1.0, 1.0]))[0], [0.0, 1.0])
  np.testing.assert_array_equal(back(jnp.float32([-1.0, -1.0]))[0], [-1.0, 0.0])


@pytest.mark.parametrize("signed", [True, False])
def test_noise_has_the_support_of_the_rounding_error(signed):
  sigma = jnp.float32(0.25)
  x = jnp.linspace(-3, 5, 4001)
  noise = jax.random.uniform(jax.random.key(0), x.shape, minval=-1, maxval=1)
  y = quantize.inject_noise(x, sigma, noise, signed=signed)
  top = 1.75 if signed else 3.5
  clipped = jnp.clip(x, -top if signed else 0, top)
  moved = x > 0 if not signed else jnp.ones_like(x, bool)
  error = (y - clipped)[moved]
  assert float(jnp.abs(error).max()) <= 0.25 + 1e-6
  assert float(error.max()) > 0.24
  assert float(error.min()) < -0.24
  if not signed:
    np.testing.assert_array_equal(y[x <= 0], 0.0)


def test_noise_gradient_of_sigma_is_the_noise_inside_the_range():
  noise = jnp.float32([0.5, -0.25, 1.0])
  x = jnp.float32([0.0, 0.3, 9.0])
  f = lambda s: quantize.inject_noise(x, s * jnp.ones(3), noise, signed=True)
  gradient = jax.jacrev(f)(jnp.float32(0.25))
  # The clipped one also feels the range 2 - sigma shrink.
  np.testing.assert_allclose(gradient, [0.5, -0.25, 0.0], atol=1e-6)


@pytest.mark.parametrize("shape", [(), (7,), (5, 1), (1, 7), (4, 5, 7)])
@pytest.mark.parametrize("signed", [True, False])
def test_noise_gradients_are_those_of_the_formula(signed, shape):
  def formula(x, sigma, noise):
    top = quantize.grid_top(sigma, signed)
    if signed:
      return jnp.clip(x, -top, top) + sigma * noise
    return jnp.where(x > 0, jnp.minimum(jax.nn.relu(x), top) + sigma * noise, 0.0)

  keys = jax.random.split(jax.random.key(0), 4)
  x = 3 * jax.random.normal(keys[0], (4, 5, 7))  # on both sides of the range
  sigma = jax.random.uniform(keys[1], shape, minval=0.05, maxval=0.9)
  noise = jax.random.uniform(keys[2], x.shape, minval=-1, maxval=1)
  g = jax.random.normal(keys[3], x.shape)
  ours = lambda x, s: quantize.inject_noise(x, s, noise, signed=signed)
  y, pull_back = jax.vjp(ours, x, sigma)
  want, plain = jax.vjp(lambda x, s: formula(x, s, noise), x, sigma)
  np.testing.assert_allclose(y, want, rtol=1e-6, atol=1e-6)
  for got, expected in zip(pull_back(g), plain(g), strict=True):
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_noise_without_magnitude_has_finite_gradients():
  f = lambda s: jnp.sum(quantize.inject_noise(jnp.ones(3), s, jnp.ones(3), signed=True))
  assert np.isfinite(jax.grad(f)(jnp.float32(0.0)))
