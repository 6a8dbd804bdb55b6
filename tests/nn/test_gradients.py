"""Gradients of alpha, beta, inputs and kernels in quantized mode, at sane and at extreme scales."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax import nn as hnn
from tests.shared import numpy_layer

_BITS = np.array([1, 2, 4, 4, 2], np.int8)


def _layer_and_variables(signed, beta, alpha):
  rng = np.random.default_rng(0)
  params = {
    "kernel": jnp.asarray(rng.normal(size=(5, 3)), jnp.float32),
    "bias": jnp.asarray(rng.normal(size=3), jnp.float32),
    "alpha": jnp.asarray(alpha * rng.uniform(0.5, 1.5, 3), jnp.float32),
    "beta": jnp.float32(beta),
  }
  layer = hnn.Dense(3, signed=signed, mode="quantized")
  return layer, {"params": params, "assignment": {"bits": _BITS}}


def _gradients(layer, variables, x, g):
  def loss(params, x):
    return jnp.sum(g * layer.apply({**variables, "params": params}, x))

  return jax.grad(loss, (0, 1))(variables["params"], x)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(
  ("size", "beta", "alpha"),
  [(1.0, 0.6, 0.1), (1e-7, 0.6, 0.1), (1e7, 0.6, 0.1), (1e-5, 1e-5, 1e-6), (1e4, 1e4, 1e5)],
)
def test_gradients_by_their_formulas(size, beta, alpha, signed):
  layer, variables = _layer_and_variables(signed, beta, alpha)
  rng = np.random.default_rng(1)
  x = jnp.asarray(size * rng.normal(size=(8, 5)), jnp.float32)
  g = jnp.asarray(rng.normal(size=(8, 3)), jnp.float32)
  params, to_x = _gradients(layer, variables, x, g)
  p = {k: np.asarray(v, np.float64) for k, v in variables["params"].items()}
  bits = _BITS.astype(np.int64)
  sigma = 2.0 ** (1 - bits)
  grid = np.asarray(x, np.float64) / p["beta"]
  unit = 1.0 if signed else 2.0
  a = numpy_layer.codes_of(grid, bits, signed) * 2.0
  a = sigma * (a - (2**bits - 1)) if signed else sigma * a
  w_bits = bits[:, None]
  w = 2.0 ** (1 - w_bits) * (2 * numpy_layer.codes_of(p["kernel"], w_bits, True) - 2**w_bits + 1)
  top = (2 - sigma) * unit
  inside = (grid >= (-top if signed else 0)) & (grid <= top)
  # Alpha: that of a gain. Beta: rounding error inside the range, the clipped value outside of it.
  z = a @ w * p["beta"]
  np.testing.assert_allclose(params["alpha"], np.sum(g * z, 0), rtol=1e-3, atol=1e-5 * p["beta"])
  back = (g * p["alpha"]) @ w.T
  step = np.where(inside, a - grid, a)
  factor = 1 / np.sqrt(x.size * np.mean(top / sigma))
  expected = factor * np.sum(back * step)
  magnitude = factor * np.sum(np.abs(back * step))
  # The rounding error is a difference of nearly cancelling terms in float32.
  terms = factor * np.sum(np.abs(back) * (np.abs(a) + np.abs(grid) * inside))
  np.testing.assert_allclose(params["beta"], expected, rtol=1e-3, atol=1e-5 * terms)
  assert abs(float(params["beta"])) <= 1.01 * magnitude + 1e-5 * terms
  np.testing.assert_allclose(to_x, np.where(inside, back, 0), rtol=1e-3, atol=1e-5 * alpha)
  np.testing.assert_allclose(params["bias"], np.sum(g, 0), rtol=1e-5, atol=1e-5)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_weights_outside_the_grid_are_pulled_back_only():
  layer, variables = _layer_and_variables(True, 1.0, 1.0)
  kernel = np.zeros((5, 3), np.float32)
  kernel[3] = (9.0, -9.0, 9.0)
  variables["params"]["kernel"] = jnp.asarray(kernel)
  x = jnp.ones((1, 5))
  for sign in (1.0, -1.0):
    params, _ = _gradients(layer, variables, x, jnp.full((1, 3), sign))
    moved = np.asarray(params["kernel"])[3] != 0
    np.testing.assert_array_equal(moved, np.sign(kernel[3]) == sign)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_noise_mode_is_finite_at_extreme_scales(size):
  layer, variables = _layer_and_variables(False, 1.0, 1.0)
  layer = layer.copy(mode="noise")
  x = jnp.asarray(size * np.random.default_rng(2).normal(size=(8, 5)), jnp.float32)

  def loss(trainable):
    return jnp.mean(jnp.square(layer.apply(trainable, x, rngs={"noise": jax.random.key(0)})))

  trainable = {"params": variables["params"], "precision": {"s": jnp.float32([-30, -3, 0, 3, 30])}}
  gradients = jax.grad(loss)(trainable)
  # At most 4 - 2 sigma per clipped input, whatever its size: gradients cannot explode.
  assert all(np.abs(leaf).max() < 1e3 for leaf in jax.tree.leaves(gradients))
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
