import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax.ops import exact
from hetjax.ops.fma import fma


def contract(a, w):
  return a @ w


@pytest.mark.parametrize(
  ("length", "a_max", "w_max"),
  [
    (7, 3, 3),
    (258, 255, 255),
    (259, 255, 255),
    (5000, 255, 255),
    (33_000, 255, 255),
    (120_000, 128, 128),
    (9000, 15, 15),
  ],
)
@pytest.mark.parametrize("extreme", [True, False])
def test_accumulators_are_exact_however_long(length, a_max, w_max, extreme):
  rng = np.random.default_rng(length)
  if extreme:
    a, w = np.full((2, length), a_max), np.full((length, 3), w_max)
    a[1] *= -1
  else:
    a, w = (
      rng.integers(-a_max, a_max + 1, (2, length)),
      rng.integers(-w_max, w_max + 1, (length, 3)),
    )
  expected = a.astype(np.int64) @ w.astype(np.int64)
  assert np.abs(expected).max() < 2**31
  got = jax.jit(lambda a, w: exact.int32_accumulator(contract, a, w, a_max=a_max, w_max=w_max))(
    a.astype(np.float32), w.astype(np.float32)
  )
  np.testing.assert_array_equal(np.asarray(got), expected)


def test_the_plain_contraction_would_not_have_been_exact():
  rng = np.random.default_rng(0)
  a, w = rng.integers(0, 256, (4, 5000)), rng.integers(0, 256, (5000, 4))
  plain = np.asarray(jnp.asarray(a, jnp.float32) @ jnp.asarray(w, jnp.float32)).astype(np.int64)
  assert (plain != a @ w).any()


@pytest.mark.parametrize(
  ("window", "channels", "groups"),
  [(3, 40, 1), (3, 80, 2), (17, 6, 3), (17, 2, 1)],
)
def test_convolutions_are_exact_in_every_group(window, channels, groups):
  rng = np.random.default_rng(window)
  a = rng.integers(200, 256, (1, window + 1, window, channels))
  w = rng.integers(200, 256, (window, window, channels // groups, 2 * groups))

  def convolve(a, w):
    return jax.lax.conv_general_dilated(
      a, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
    )

  by_group = zip(np.split(a, groups, axis=-1), np.split(w, groups, axis=-1), strict=True)
  rows = lambda part: np.stack([part[0, i : i + window].reshape(-1) for i in (0, 1)])
  expected = np.concatenate([rows(x) @ k.reshape(-1, 2) for x, k in by_group], axis=-1)
  assert expected.max() > 1 << 24
  operands = jnp.asarray(a, jnp.float32), jnp.asarray(w, jnp.float32)
  got = exact.int32_accumulator(convolve, *operands, a_max=255, w_max=255)
  np.testing.assert_array_equal(got[0, :, 0], expected)


def test_too_long_is_refused():
  a, w = jnp.zeros((1, 1 << 23)), jnp.zeros((1 << 23, 1))
  with pytest.raises(ValueError, match="too long"):
    exact.int32_accumulator(contract, a, w, a_max=255, w_max=255)


@pytest.mark.parametrize("length", [10, 1000])
def test_gradients_are_those_of_the_plain_contraction_times_the_scale(length):
  rng = np.random.default_rng(length)
  a = jnp.asarray(rng.integers(0, 256, (2, length)), jnp.float32)
  w = jnp.asarray(rng.integers(-255, 256, (length, 3)), jnp.float32)
  scale = jnp.asarray(rng.uniform(0.5, 2, 3), jnp.float32)
  g = jnp.asarray(rng.normal(size=(2, 3)), jnp.float32)

  bias = jnp.asarray(rng.normal(size=3), jnp.float32)

  def run(a, w, scale, bias):
    return exact.scaled_accumulator(contract, a, w, scale, bias, a_max=255, w_max=255)

  t = (np.asarray(a, np.int64) @ np.asarray(w, np.int64)).astype(np.float32)
  operands = (a, w, scale, bias)
  (y, accumulator), (trained, same) = run(*operands), jax.vjp(run, *operands)[0]
  np.testing.assert_array_equal(accumulator, t)
  np.testing.assert_array_equal(same, t)
  np.testing.assert_array_equal(y, fma(t, scale, bias))
  np.testing.assert_allclose(trained, y, rtol=1e-6, atol=1e-6 * float(np.max(np.abs(y))))
  back = jax.vjp(lambda *operands: run(*operands)[0], *operands)[1]
  plain = jax.vjp(lambda a, w, scale, bias: contract(a, w) * scale + bias, *operands)[1]
  for got, want in zip(back(g), plain(g), strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4 * float(jnp.max(jnp.abs(want))))


def test_a_differentiated_accumulator_is_contracted_as_training_does():
  calls = []

  @jax.custom_vjp
  def contracts(a, w):
    calls.append("plain")
    return contract(a, w)

  contracts.defvjp(
    lambda a, w: (calls.append("training"), (contract(a, w), (a, w)))[1],
    lambda kept, g: jax.vjp(contract, *kept)[1](g),
  )
  a, w, ones = jnp.ones((2, 4)), jnp.ones((4, 3)), jnp.ones(3)

  def run(a):
    return exact.scaled_accumulator(contracts, a, w, ones, ones, a_max=1, w_max=1)[0]

  run(a)
  assert set(calls) == {"plain"}
  calls.clear()
  jax.vjp(run, a)
  assert calls[-1] == "training"
