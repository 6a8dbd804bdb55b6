"""Gradients on their way to the optimizer, and the noise they are taken under."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax.core import Assignment, Palette
from hetjax.core.layers import LayerSpec
from hetjax.learn.gradients import ramped_strength, scaled_by_rounding, shared_by_layers
from hetjax.learn.phase import PhaseConfig
from hetjax.learn.step import initial_state, make_train_step
from hetjax.nn.packing import assignment_collection
from tests.shared import tiny

SPECS = {
  "a/conv": LayerSpec("a/conv", (1, 1, 3, 1), 1, Palette((1, 2, 4)), False, None, 1),
  "last": LayerSpec("last", (1, 1, 1, 1), 1, Palette((2,)), True, 2, 1),
}


def _tree(conv, last):
  kernel = lambda values: jnp.asarray(values, jnp.float32)[None, None, :, None]
  layers = {"conv": {"kernel": kernel(conv), "alpha": jnp.ones(1)}}
  return {"a": layers, "last": {"kernel": kernel(last)}}


def test_gradients_by_hand():
  # Half a cell is 1, 1/2 and 1/8 wide; the levels are 1, 1/2 and 1/8 for these weights.
  params = _tree([1.5, 0.25, 0.1875], [9.0])
  assignment = {"a": {"conv": {"bits": jnp.array([1, 2, 4], jnp.int8)}}}
  gradients = _tree([2.0, 2.0, -2.0], [1.0])
  got = scaled_by_rounding(gradients, params, assignment, SPECS, 0.5)
  # Above its level: +1/2 of a half cell, descent leads back. Below: -1/2, away. Above: +1/2, away.
  want = [2.0 * 1.25, 2.0 * 0.75, -2.0 * 0.75]
  np.testing.assert_allclose(got["a"]["conv"]["kernel"].ravel(), want, rtol=1e-6)
  np.testing.assert_allclose(got["last"]["kernel"].ravel(), [1.5])  # no more than a half cell off
  np.testing.assert_array_equal(got["a"]["conv"]["alpha"], gradients["a"]["conv"]["alpha"])
  none = scaled_by_rounding(gradients, params, assignment, SPECS, 0.0)
  jax.tree.map(np.testing.assert_array_equal, none, gradients)


def test_depthwise_kernels_take_the_bits_of_their_channels():
  spec = LayerSpec("d", (1, 1, 1, 4), 2, Palette((1, 2)), False, None, 1)  # two outputs a channel
  kernel = lambda values: {"d": {"kernel": jnp.asarray(values, jnp.float32).reshape(1, 1, 1, 4)}}
  assignment = {"d": {"bits": jnp.array([1, 2], jnp.int8)}}
  got = scaled_by_rounding(
    kernel([1.0] * 4), kernel([1.5, 0.5, 0.75, 0.25]), assignment, {"d": spec}, 1.0
  )
  np.testing.assert_allclose(got["d"]["kernel"].ravel(), [1.5, 0.5, 1.5, 0.5])


def test_gradients_of_a_layers_precisions_become_their_mean():
  tree = {"a": {"s": jnp.array([1.0, 2.0, 6.0])}, "b": {"s": jnp.array([4.0])}}
  shared = shared_by_layers(tree)
  np.testing.assert_allclose(shared["a"]["s"], [3.0, 3.0, 3.0])
  np.testing.assert_allclose(shared["b"]["s"], [4.0])


@pytest.mark.parametrize(("done", "strength"), [(0, 0.2), (3, 0.8), (4, 1.0), (9, 1.0)])
def test_noise_grows_to_its_full_size(done, strength):
  precision = {"a": {"conv": {"s": jnp.zeros(3)}}}
  got = ramped_strength(precision, SPECS, done, 10, 0.5)
  assert set(got) == {"a"} and set(precision["a"]["conv"]) == {"s"}
  assert float(got["a"]["conv"]["strength"]) == pytest.approx(strength)


def _loss_of_first_step(**fields):
  exp = tiny.shared()
  config = dataclasses.replace(exp.recipe.search, steps=1000, **fields)
  variables = tiny.start_variables(exp)
  noisy = lambda s: jnp.full_like(s, 1.0)  # 1.5 bits: much noise
  variables["precision"] = jax.tree.map(noisy, variables["precision"])
  state = initial_state(config, variables, exp.run.specs)
  state = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), state)
  key = jax.random.key(0, impl="rbg")
  state, logs = make_train_step(exp.run.model, config, exp.run.specs)(
    state, exp.run.batches.batch(0), key
  )
  assert all(set(layer) == {"s"} for layer in _layers(state.precision))
  return float(logs["loss"])


def _layers(tree):
  if "s" in tree:
    yield tree
  else:
    for node in tree.values():
      yield from _layers(node)


def test_a_ramp_of_the_noise_reaches_the_step():
  full, ramped = (_loss_of_first_step(noise_ramp_fraction=f) for f in (None, 0.6))
  assert abs(ramped - full) > 1e-3


def test_the_finetuning_step_scales_gradients():
  exp = tiny.shared()
  specs = exp.run.specs
  variables = tiny.start_variables(exp)
  del variables["precision"]
  variables["assignment"] = assignment_collection(Assignment.uniform(specs, 2), specs)
  after = {}
  for strength in (None, 1.0):
    config = dataclasses.replace(exp.recipe.finetune, gradient_scaling=strength)
    state = jax.tree.map(
      lambda leaf: jnp.array(leaf, copy=True), initial_state(config, variables, specs)
    )
    step = make_train_step(exp.run.model, config, specs)
    for index in range(2):  # Adam's first step knows signs only
      state, _ = step(state, exp.run.batches.batch(index), jax.random.key(0, impl="rbg"))
    after[strength] = jax.device_get(state.params)
  changed = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), after[None], after[1.0])
  assert max(jax.tree.leaves(changed)) > 1e-5


def test_options_of_other_phases_are_refused():
  with pytest.raises(ValueError, match="learns no bits: noise_ramp_fraction needs a noise mode"):
    PhaseConfig("finetune", "quantized", 1, noise_ramp_fraction=0.5)
  with pytest.raises(ValueError, match=r"noise_ramp_fraction must be in \(0, 0.6\], got 1"):
    PhaseConfig("search", "noise", 1, noise_ramp_fraction=1)
  with pytest.raises(ValueError, match=r"gradient_scaling must be in \[0, 1\] .* got 2 for mode"):
    PhaseConfig("finetune", "quantized", 1, gradient_scaling=2)
  with pytest.raises(ValueError, match="gradient_scaling .* got 0.1 for mode 'noise'"):
    PhaseConfig("search", "noise", 1, gradient_scaling=0.1)
