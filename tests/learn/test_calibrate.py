"""Initial scales: the best of their grids by brute force, and the float network unchanged."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax import nn as hnn
from hetjax.core import quantize
from hetjax.core.precision import get_path
from hetjax.learn import calibrate as calibration
from tests.shared import nets, numpy_layer


def _quantized(x, bits, signed):
  codes = numpy_layer.codes_of(x, bits, signed)
  sigma = 2.0 ** (1 - bits)
  return sigma * (2 * codes - (2**bits - 1)) if signed else 2 * sigma * codes


def _bits_per_weight(bits, spec):
  grouped = bits.reshape(spec.groups, -1).T
  return np.repeat(grouped, spec.out_channels // spec.groups, axis=1)[None, None]


def test_scales_are_the_best_of_their_grids():
  model, images, variables, specs = nets.mixed()
  plain = {**variables, "params": nets.random_variables(model, images)["params"]}
  inputs = calibration.layer_inputs(model, plain, images, specs)
  assignment = hnn.packing.assignment_of(variables, specs)
  for name, spec in specs.items():
    new, old = (get_path(v["params"], name) for v in (variables, plain))
    bits = assignment.bits[name].astype(int)
    weights = np.asarray(old["kernel"], np.float64).reshape(spec.kernel_shape)
    per_weight = _bits_per_weight(bits, spec)
    spread = np.sqrt(np.mean(np.square(weights), (0, 1, 2)))
    costs = np.array(
      [
        np.sum((_quantized(weights / a, per_weight, True) * a - weights) ** 2, (0, 1, 2))
        for a in spread * calibration.ALPHA_GRID[:, None].astype(float)
      ]
    )
    np.testing.assert_allclose(
      _cost_at(costs, spread, calibration.ALPHA_GRID, new["alpha"]), costs.min(0), rtol=1e-3
    )
    x = np.asarray(inputs[name], np.float64)
    rms = np.sqrt(np.mean(x**2))
    costs = np.array(
      [
        np.sum((_quantized(x / b, bits, spec.signed) * b - x) ** 2)
        for b in rms * calibration.BETA_GRID.astype(float)
      ]
    )
    at = _cost_at(costs[:, None], np.array([rms]), calibration.BETA_GRID, new["beta"][None])
    np.testing.assert_allclose(at, costs.min(), rtol=1e-3)


def _cost_at(costs, unit, grid, scale):
  """Cost of chosen scales, which must lie on the grid."""
  where = np.abs(grid[:, None] - np.asarray(scale) / unit).argmin(0)
  np.testing.assert_allclose(grid[where], np.asarray(scale) / unit, rtol=1e-4)
  return costs[where, np.arange(len(unit))]


def test_the_float_network_is_unchanged():
  model, images, variables, _ = nets.mixed()
  plain = nets.random_variables(model, images)
  run = jax.jit(model.apply)
  fitted = {k: variables[k] for k in plain}
  np.testing.assert_allclose(run(fitted, images), run(plain, images), rtol=1e-4, atol=1e-5)
  assert not np.allclose(fitted["params"]["head"]["alpha"], 1)
  assert variables["params"].keys() == plain["params"].keys()


class One(nn.Module):
  @nn.compact
  def __call__(self, x, *, mode="float"):
    return hnn.Dense(3, mode=mode, name="only")(x)


def test_without_an_assignment_the_scales_are_those_of_noise():
  x = np.abs(np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32))
  variables = nets.random_variables(One(), x)
  specs = hnn.layer_specs(One(), x)

  def fitted(s):
    precision = {"only": {"s": jnp.full(4, s)}}
    return calibration.calibrate(One(), {**variables, "precision": precision}, x, specs)["params"]

  coarse, fine = fitted(2.0)["only"], fitted(-4.0)["only"]
  # Loud noise takes a smaller scale at the price of clipping more.
  assert float(coarse["beta"]) < float(fine["beta"])
  levels = {"only": {"bits": np.full(4, 1, np.int8)}}
  both = {**variables, "precision": {"only": {"s": jnp.full(4, -4.0)}}, "assignment": levels}
  one_bit = calibration.calibrate(One(), both, x, specs)["params"]["only"]
  assert float(one_bit["beta"]) != float(fine["beta"])  # the assignment decides


@pytest.mark.parametrize("signed", [True, False])
def test_noise_error_is_the_monte_carlo_mean(signed):
  x = jnp.float32([-5.0, -1.0, 0.0, 0.2, 1.5, 3.0, 7.0])
  sigma = jnp.float32(0.4)
  noise = np.random.default_rng(0).uniform(-1, 1, (100_000, x.size)).astype(np.float32)
  noisy = jax.vmap(lambda n: quantize.inject_noise(x, sigma, n, signed=signed))(noise)
  expected = np.mean(np.square(np.asarray(noisy) - x), 0)
  got = calibration.noise_error(x, sigma, signed)
  np.testing.assert_allclose(got, expected, rtol=0.02, atol=1e-6)


def test_all_zero_tensors_get_a_positive_scale():
  error = lambda v: calibration.rounding_error(v, jnp.int32(4), True)
  assert float(calibration.fit_beta(jnp.zeros((4, 3)), error)) > 0
  assert np.all(np.asarray(calibration.fit_alpha(jnp.zeros((4, 3)), error)) > 0)


def test_a_single_weight_per_output_keeps_its_size():
  weights = jnp.float32([[0.7, -1.3, 0.02]])
  alpha = calibration.fit_alpha(
    weights, lambda v: calibration.rounding_error(v, jnp.int32(4), True)
  )
  rounded = quantize.straight_through(weights / alpha, jnp.int32(4), True) * alpha
  np.testing.assert_allclose(rounded, weights, rtol=0.1)
