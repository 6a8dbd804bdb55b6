"""Noise mode: the statistics of the noise and the gradients that it gives to s."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax import nn as hnn
from hetjax.core.precision import s_of_bits
from tests.shared.nets import random_variables


def _samples(x, kernel, s, signed, count=20_000, **schedule):
  """Outputs of a one-output dense layer under many keys, alpha = 2 and beta = 0.5."""
  layer = hnn.Dense(1, use_bias=False, signed=signed, mode="noise")
  variables = {
    "params": {"kernel": kernel, "alpha": jnp.full(1, 2.0), "beta": jnp.float32(0.5)},
    "precision": {"s": s, **schedule},
  }
  run = jax.jit(jax.vmap(lambda key: layer.apply(variables, x, rngs={"noise": key})[0]))
  return np.asarray(run(jax.random.split(jax.random.key(3, impl="rbg"), count)))


@pytest.mark.parametrize("signed", [True, False])
def test_mean_and_variance_of_the_output(signed):
  bits = np.array([1.5, 2.0, 4.0])
  sigma = 2.0 ** (1 - bits)
  a, w = np.array([0.3, 0.8, 1.0]), np.array([-0.5, 0.2, 1.1])  # inside every range
  x, kernel = jnp.float32(0.5 * a), jnp.float32(w)[:, None]
  y = _samples(x, kernel, s_of_bits(bits), signed)
  spread = (a**2 + sigma**2 / 3) * (w**2 + sigma**2 / 3) - a**2 * w**2
  assert y.mean() == pytest.approx(np.dot(a, w), abs=4 * np.sqrt(spread.sum() / len(y)))
  assert y.var() == pytest.approx(spread.sum(), rel=0.05)


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_a_schedule_shrinks_the_noise_of_both_operands(strength):
  a, w, bits = np.array([0.3, 0.8]), np.array([0.2, 1.1]), np.array([1.5, 2.0])
  x, kernel = jnp.float32(0.5 * a), jnp.float32(w)[:, None]
  y = _samples(x, kernel, s_of_bits(bits), True, strength=jnp.float32(strength))
  power = (strength * 2.0 ** (1 - bits)) ** 2 / 3
  spread = ((a**2 + power) * (w**2 + power) - a**2 * w**2).sum()
  np.testing.assert_allclose(y.var(), spread, rtol=0.05, atol=1e-12)
  if strength == 0:
    np.testing.assert_allclose(y, np.dot(a, w), rtol=1e-6)


def test_noise_has_the_support_of_the_rounding_error():
  a, w, bits = 0.25, 1.0, 3.0
  sigma = 2.0 ** (1 - bits)
  y = _samples(jnp.float32([0.5 * a]), jnp.float32([[w]]), s_of_bits(jnp.float32([bits])), True)
  products = [(a + i) * (w + j) for i in (-sigma, sigma) for j in (-sigma, sigma)]
  assert min(products) <= y.min() < min(products) + 0.02
  assert max(products) - 0.02 < y.max() <= max(products) + 1e-6


def test_zeros_after_a_relu_carry_no_noise():
  y = _samples(jnp.zeros(3), jnp.ones((3, 1)), jnp.full(3, -1.0), signed=False, count=100)
  np.testing.assert_array_equal(y, 0.0)
  assert np.all(_samples(jnp.zeros(3), jnp.ones((3, 1)), jnp.full(3, -1.0), True, 100) != 0)


def test_operands_and_keys_draw_apart():
  layer = hnn.Dense(2, use_bias=False, signed=True, mode="noise")
  x = jnp.ones((4, 3))
  variables = hnn.Dense(2, use_bias=False, signed=True).init(jax.random.key(0), x)
  first = layer.apply(variables, x, rngs={"noise": jax.random.key(1)})
  again = layer.apply(variables, x, rngs={"noise": jax.random.key(1)})
  other = layer.apply(variables, x, rngs={"noise": jax.random.key(2)})
  np.testing.assert_array_equal(first, again)
  assert np.all(np.asarray(first) != np.asarray(other))
  assert len(np.unique(np.asarray(first)[:, 0])) == 4  # every example has noise of its own


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("groups", [1, 2])
def test_every_channel_feels_the_loss(groups, signed):
  x = np.abs(np.random.default_rng(0).normal(size=(4, 5, 5, 6)).astype(np.float32))
  options = {"feature_group_count": groups, "signed": signed}
  variables = random_variables(hnn.Conv(4, 3, **options), x)
  layer = hnn.Conv(4, 3, mode="noise", **options)

  def loss(s, key):
    y = layer.apply({**variables, "precision": {"s": s}}, x, rngs={"noise": key})
    return jnp.mean(jnp.square(y - 1.0))

  s = jnp.full(6, -1.0)
  keys = jax.random.split(jax.random.key(1, impl="rbg"), 400)
  grad = functools.partial(jax.grad(loss), s)
  gradients = np.asarray(jax.jit(lambda k: jax.lax.map(grad, k))(keys))
  assert gradients.shape == (400, 6)
  assert np.isfinite(gradients).all()
  # More noise costs more: the loss pushes every s down, on average and significantly so.
  mean, error = gradients.mean(0), gradients.std(0) / np.sqrt(400)
  assert np.all(mean > 4 * error)


def test_without_noise_on_activations_they_are_only_clipped():
  x = np.array([[0.5, 3.0, -1.0, 9.0]], np.float32)
  params = {"kernel": jnp.ones((4, 2)), "alpha": jnp.ones(2), "beta": jnp.float32(1.0)}
  variables = {"params": params, "precision": {"s": jnp.zeros(4)}}  # sigma 1/2
  keys = jax.random.split(jax.random.key(0), 6000)

  def spread(mode, images):
    layer = hnn.Dense(2, use_bias=False, mode=mode)
    run = jax.jit(lambda key: layer.apply(variables, images, rngs={"noise": key})[0])
    return np.var(np.asarray(jax.lax.map(run, keys)), axis=0)

  # Weights 1 plus U(-1, 1) / 2 each, activations clipped to [0, 3]: sum of squares times 1 / 12.
  clipped = np.array([0.5, 3.0, 0.0, 3.0])
  np.testing.assert_allclose(spread("weight_noise", x), np.sum(clipped**2) / 12, rtol=0.1)
  # Noise of three positive activations adds three times 1 / 12, and a little more as weights vary.
  assert np.all(spread("noise", x) > np.sum(clipped**2) / 12 + 0.15)
  assert np.all(spread("weight_noise", 0 * x) == 0)
