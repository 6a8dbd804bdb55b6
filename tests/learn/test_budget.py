"""Budgets: measures, ramp, multiplier, and that dual ascent holds a budget."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax.core import LayerSpec, Palette
from hetjax.core.precision import bits_of_s
from hetjax.hardware import load_target, network_cycles, target_names
from hetjax.learn.budget import (
  INITIAL,
  LARGEST,
  LEAST,
  Budget,
  excess,
  measure,
  penalty,
  ramped_limit,
  step_multiplier,
  unit,
)
from hetjax.learn.optimizer import OptimizerConfig, make_optimizer

CHANNELS = 64

SPECS = {
  "a": LayerSpec("a", (3, 3, 4, 5), 1, Palette(), False, None, 7),
  "b": LayerSpec("b", (1, 1, 2, 8), 1, Palette((8,)), False, 8, 1),
}
BITS = {"a": jnp.array([1.0, 2.0, 3.0, 4.0]), "b": jnp.full(2, 8.0)}


def test_measures():
  params, macs = (45 * 10 + 8 * 16) / 196, (315 * 10 + 8 * 16) / 1276
  assert float(measure(Budget("mean_bits_params", 2), BITS, SPECS)) == pytest.approx(params)
  assert float(measure(Budget("mean_bits_macs", 2), BITS, SPECS)) == pytest.approx(macs)
  files = Budget("file_bytes", 100, overhead_bytes=11)
  assert float(measure(files, BITS, SPECS)) == pytest.approx((45 * 10 + 8 * 16) / 8 + 11)
  assert unit(files, SPECS) == 196 / 8
  machine = load_target(target_names()[0])
  latency = Budget("latency_us", 0.5, machine=machine)
  expected = machine.microseconds(float(network_cycles(BITS, SPECS, machine)))
  assert float(measure(latency, BITS, SPECS)) == pytest.approx(expected)


def test_a_step_of_latency_is_that_of_one_bit_more_on_average():
  machine = load_target(target_names()[0])
  latency = Budget("latency_us", 0.5, machine=machine)
  at = lambda bits: float(measure(latency, {**BITS, "a": jnp.full(4, bits)}, SPECS))
  assert unit(latency, SPECS) == pytest.approx((at(4.0) - at(1.0)) / 3, rel=1e-4)


def test_a_file_needs_its_overhead_measured():
  with pytest.raises(ValueError, match="overhead_bytes of a budget"):
    measure(Budget("file_bytes", 100), BITS, SPECS)


def test_ramp():
  assert float(ramped_limit(4.0, 2.0, 0.0, 0.6)) == 4.0
  assert float(ramped_limit(4.0, 2.0, 0.3, 0.6)) == pytest.approx(3.0)
  assert float(ramped_limit(4.0, 2.0, 0.6, 0.6)) == pytest.approx(2.0, abs=1e-6)
  assert float(ramped_limit(4.0, 2.0, 1.0, 0.6)) == 2.0
  assert float(ramped_limit(4.0, 2.0, 0.0, 0.0)) == 2.0
  assert float(ramped_limit(1.5, 2.0, 0.0, 0.6)) == 2.0


def test_the_multiplier_rises_and_falls_by_factors():
  budget = Budget("mean_bits_params", 2.0, rate=0.1)
  assert float(step_multiplier(budget, 2.0, 0.2)) == pytest.approx(2.0 * math.exp(0.02))
  assert float(step_multiplier(budget, 2.0, -0.2)) == pytest.approx(2.0 * math.exp(-0.02))
  assert float(step_multiplier(budget, 2.0, 5.0)) == pytest.approx(2.0 * math.exp(0.03))
  assert float(step_multiplier(budget, LEAST, -1.0)) == pytest.approx(LEAST)
  assert float(step_multiplier(budget, LARGEST, 1.0)) == pytest.approx(LARGEST)


def test_damping_weighs_the_excess_itself_and_never_rewards():
  damped = Budget("mean_bits_params", 2.0, damping=5.0)
  weight = lambda over: float(penalty(damped, 0.3, over, 1.0, SPECS))
  assert weight(0.2) == pytest.approx(0.3 * math.exp(1.0))
  assert weight(-0.2) == pytest.approx(0.3 * math.exp(-1.0))
  assert weight(7.0) == pytest.approx(0.3 * math.exp(1.5)) and weight(-7.0) > 0
  # The excess is a constant to the gradient, the measured value is not.
  gradient = jax.grad(lambda v: penalty(damped, 0.3, v - 2.0, v, SPECS))(2.2)
  assert float(gradient) == pytest.approx(0.3 * math.exp(1.0))


def test_file_bytes_step_like_mean_bits():
  """The same excess in bits per weight moves the multiplier equally, whatever the unit."""
  mean = Budget("mean_bits_params", 2.0)
  files = Budget("file_bytes", 2.0 * 196 / 8, overhead_bytes=0)
  values = [measure(b, BITS, SPECS) for b in (mean, files)]
  overs = [excess(b, v, v, 0.9, SPECS) for b, v in zip((mean, files), values, strict=True)]
  steps = [step_multiplier(b, 0.3, o) for b, o in zip((mean, files), overs, strict=True)]
  np.testing.assert_allclose(steps[0], steps[1], rtol=1e-5)
  assert float(steps[0]) > 0.3
  np.testing.assert_allclose(
    *(penalty(b, 0.3, o, v, SPECS) for b, o, v in zip((mean, files), overs, values, strict=True)),
    rtol=1e-5,
  )


@functools.cache
def _searched(limit, ramp, steps=900):
  """A search of channels that lose `scale h 4^-b` at b bits: their bits and excess at its end."""
  importance = jnp.exp(jax.random.normal(jax.random.key(0), (CHANNELS,)))
  optimizer = make_optimizer(OptimizerConfig(precision_rate=2e-2), steps)
  specs = {"a": LayerSpec("a", (1, 1, CHANNELS, 8), 1, Palette(), False, None, 1)}

  budget = Budget("mean_bits_params", limit, ramp_fraction=ramp)

  @jax.jit
  def run(scale):
    s = jnp.full(CHANNELS, -2.5)
    tree = lambda s: {"params": {}, "precision": {"a": {"s": s}}}
    start = measure(budget, {"a": bits_of_s(s)}, specs)

    def step(carry, index):
      s, state, multiplier = carry

      def loss(s):
        value = measure(budget, {"a": bits_of_s(s)}, specs)
        over = excess(budget, value, start, (index + 1) / steps, specs)
        task = scale * jnp.mean(importance * 4.0 ** -bits_of_s(s))
        return task + penalty(budget, multiplier, over, value, specs), over

      gradient, over = jax.grad(loss, has_aux=True)(s)
      updates, state = optimizer.update(tree(gradient), state, tree(s))
      s = s + updates["precision"]["a"]["s"]
      return (s, state, step_multiplier(budget, multiplier, over)), over

    carry = (s, optimizer.init(tree(s)), jnp.float32(INITIAL))
    (s, *_), overs = jax.lax.scan(step, carry, jnp.arange(steps))
    return bits_of_s(s), overs[-1]

  return run


@pytest.mark.parametrize("ramp", [0.0, 0.6])
@pytest.mark.parametrize("limit", [1.6, 4.0])
@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
def test_searches_end_at_their_limit_with_channels_apart(scale, limit, ramp):
  bits, over = _searched(limit, ramp)(scale)
  assert abs(float(over)) < 0.01 * limit
  # Where all losses of a bit are equal, bits differ by the logarithm of importance to base four.
  assert float(jnp.std(bits)) > 0.3


@pytest.mark.parametrize(
  ("kwargs", "message"),
  [
    ({"quantity": "bytes", "limit": 1}, "quantity must be among"),
    ({"quantity": "file_bytes", "limit": 0}, "limit must be positive"),
    ({"quantity": "file_bytes", "limit": float("inf")}, "limit must be positive"),
    ({"quantity": "file_bytes", "limit": 1, "rate": -1}, "rate must be positive"),
    ({"quantity": "file_bytes", "limit": 1, "ramp_fraction": 1.5}, "ramp_fraction must be in"),
    ({"quantity": "file_bytes", "limit": 1, "overhead_bytes": -1}, "must not be negative"),
    ({"quantity": "file_bytes", "limit": 1, "damping": -1}, "damping must be finite"),
    ({"quantity": "latency_us", "limit": 1}, "machine must be given"),
  ],
)
def test_bad_budgets_are_refused(kwargs, message):
  with pytest.raises(ValueError, match=message):
    Budget(**kwargs)
