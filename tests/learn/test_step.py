"""The train step of the search: noise, penalties, and a budget that is kept."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax.core.precision import learned_bits, mean_bits
from hetjax.learn.budget import INITIAL, Budget
from hetjax.learn.optimizer import OptimizerConfig
from hetjax.learn.phase import PhaseConfig
from hetjax.learn.regularizers import RegularizerConfig
from hetjax.learn.step import bits_penalty, initial_state, make_train_step
from tests.shared import tiny

KEY = jax.random.key(0, impl="rbg")


def test_phases_that_cannot_be_are_refused():
  with pytest.raises(ValueError, match="steps of phase 'search' must be positive, got 0"):
    PhaseConfig("search", "noise", 0)
  budget = Budget("mean_bits_params", 2.0)
  with pytest.raises(ValueError, match="'finetune' learns no bits"):
    PhaseConfig("finetune", "quantized", 1, budget=budget)
  with pytest.raises(ValueError, match="'finetune' learns no bits: freeze_fraction needs a noise"):
    PhaseConfig("finetune", "quantized", 1, freeze_fraction=0.5)
  with pytest.raises(ValueError, match=r"freeze_fraction must be in \(0, 1\], .* got 0"):
    PhaseConfig("search", "noise", 1, freeze_fraction=0.0)
  with pytest.raises(ValueError, match=r"must be in \(0, 0.4\], after the budget's ramp, got 0.5"):
    PhaseConfig("search", "noise", 1, budget=budget, freeze_fraction=0.5)
  with pytest.raises(ValueError, match="norm_batches .* got 50 for mode 'noise'"):
    PhaseConfig("search", "noise", 1, norm_batches=50)
  with pytest.raises(ValueError, match="'float' learns no bits"):
    PhaseConfig("float", "float", 1, regularizers=(RegularizerConfig("mean_bits_macs", 1.0),))


def test_initial_state_and_penalty_by_hand():
  exp = tiny.shared()
  variables = tiny.start_variables(exp)
  specs = exp.run.specs
  regularizers = (
    RegularizerConfig("mean_bits_macs", 0.5),
    RegularizerConfig("mean_bits_params", 2),
  )
  budget = Budget("mean_bits_params", 3.5, damping=2.0)
  config = dataclasses.replace(exp.recipe.search, budget=budget, regularizers=regularizers)
  state = initial_state(config, variables, specs)
  bits = learned_bits(variables["precision"], specs)
  by_params, by_macs = (float(mean_bits(bits, specs, by)) for by in ("params", "macs"))
  assert float(state.budget_start) == pytest.approx(by_params)
  assert (int(state.step), state.assignment) == (0, {})
  assert float(state.multiplier) == pytest.approx(INITIAL)
  assert set(state.variables) == {"params", "batch_stats", "precision"}
  state = state.replace(multiplier=jnp.float32(3.0))
  penalty, logs = bits_penalty(config, variables["precision"], state, specs)
  ramped = 3.5 + (1 - 1 / config.steps / 0.6) * (by_params - 3.5)  # at the first step
  weight = 3.0 * np.exp(2.0 * (by_params - ramped))
  assert float(penalty) == pytest.approx(0.5 * by_macs + (2 + weight) * by_params, rel=1e-5)
  assert float(logs["excess"]) == pytest.approx(by_params - ramped, rel=1e-4)
  assert float(logs["penalty/mean_bits_macs"]) == pytest.approx(by_macs)
  assert float(logs["budget"]) == float(logs["bits_params"]) == pytest.approx(by_params)


def test_a_search_that_freezes_comes_to_levels_bit_by_bit():
  exp = tiny.shared()
  optimizer = OptimizerConfig(2e-3, precision_rate=0.1, warmup_steps=1)
  config = PhaseConfig("search", "noise", 4, optimizer, freeze_fraction=0.5)
  # Unlike starts: channels that are equally near come to rest together.
  variables = tiny.start_variables(exp)
  spread = lambda s: s + jnp.linspace(0.0, 0.3, s.size)
  variables["precision"] = jax.tree.map(spread, variables["precision"])
  state = jax.tree.map(
    lambda leaf: jnp.array(leaf, copy=True), initial_state(config, variables, exp.run.specs)
  )
  step = make_train_step(exp.run.model, config, exp.run.specs)
  free = [n for n, s in exp.run.specs.items() if s.pinned_bits is None]
  resting, all_bits = [], []
  for index in range(4):
    state, _ = step(state, exp.run.batches.batch(index), KEY)
    bits = learned_bits(jax.device_get(state.precision), exp.run.specs)
    all_bits.append(np.concatenate([bits[n] for n in free]))
    levels = np.concatenate(
      [np.tile(exp.run.specs[n].palette.levels, (len(bits[n]), 1)) for n in free]
    )
    resting.append(np.abs(all_bits[-1][:, None] - levels).min(axis=1) < 0.011)
  shares = [float(np.mean(r)) for r in resting]
  assert shares[0] < 0.1 and shares[1] < 0.1 and 0.3 < shares[2] < 0.7 and shares[3] == 1
  np.testing.assert_array_equal(all_bits[3][resting[2]], all_bits[2][resting[2]])


TARGET, STEPS = 3.6, 800


@pytest.fixture(scope="module")
def search():
  """A function that makes the state before the search's first step, and the compiled step."""
  exp = tiny.shared()
  optimizer = OptimizerConfig(2e-3, scale_rate=2e-3, precision_rate=0.02, warmup_steps=10)
  budget = Budget("mean_bits_params", TARGET)
  config = dataclasses.replace(exp.recipe.search, steps=STEPS, optimizer=optimizer, budget=budget)

  def fresh():
    state = initial_state(config, tiny.start_variables(exp), exp.run.specs)
    return jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), state)

  return fresh, make_train_step(exp.run.model, config, exp.run.specs)


def test_noise_follows_from_key_and_step(search):
  fresh, step = search
  batch = tiny.shared().run.batches.batch(0)

  def loss(at, key):
    return float(step(fresh().replace(step=jnp.int32(at)), batch, key)[1]["loss"])

  assert loss(0, KEY) == loss(0, KEY)
  assert len({loss(0, KEY), loss(1, KEY), loss(0, jax.random.key(1, impl="rbg"))}) == 3


def test_a_search_reaches_its_budget_and_adapts_its_multiplier(search):
  fresh, step = search
  state = fresh()
  start = float(state.budget_start)
  values, multipliers = [], []
  for i in range(STEPS):
    state, logs = step(state, tiny.shared().run.batches.batch(i), KEY)
    values.append(float(logs["budget"]))
    multipliers.append(float(logs["multiplier"]))
  assert start > TARGET + 1
  assert max(abs(v - TARGET) for v in values[-5:]) < 0.01 * TARGET
  # Dual ascent: up while above the ramped target, down below it.
  done = (1 + np.arange(STEPS)) / STEPS
  ramped = TARGET + np.clip(1 - done / 0.6, 0, 1) * (start - TARGET)
  expected = [INITIAL, *multipliers[:-1]] * np.exp(0.1 * (np.array(values) - ramped))
  np.testing.assert_allclose(multipliers, expected, rtol=1e-4)
  assert max(multipliers) > 0.1 and np.any(np.diff(multipliers) < 0)
  assert int(state.step) == STEPS and np.isfinite(float(logs["loss"]))
  learned = np.concatenate([np.asarray(leaf) for leaf in jax.tree.leaves(state.precision)])
  assert learned.std() > 0.05  # channels differ in what they need


def test_channels_of_a_layer_stay_alike_where_precisions_are_by_layer():
  exp = tiny.shared()
  optimizer = OptimizerConfig(2e-3, scale_rate=2e-3, precision_rate=0.02, warmup_steps=1)
  spread = {}
  for granularity in ("channel", "layer"):
    config = PhaseConfig("search", "noise", 8, optimizer, granularity=granularity)
    state = jax.tree.map(
      lambda leaf: jnp.array(leaf, copy=True),
      initial_state(config, tiny.start_variables(exp), exp.run.specs),
    )
    step = make_train_step(exp.run.model, config, exp.run.specs)
    for index in range(3):
      state, _ = step(state, exp.run.batches.batch(index), KEY)
    learned = jax.tree.leaves(jax.device_get(state.precision))
    assert all((np.abs(s + 2.5) > 1e-4).all() for s in learned)
    spread[granularity] = max(float(np.ptp(s)) for s in learned)
  assert spread["layer"] == 0.0 < spread["channel"]


def test_precisions_by_layer_are_learned_in_a_search_only():
  with pytest.raises(ValueError, match="'finetune' learns no bits: granularity needs a noise"):
    PhaseConfig("finetune", "quantized", 1, granularity="layer")
  with pytest.raises(ValueError, match="granularity must be 'channel' or 'layer', got 'block'"):
    PhaseConfig("search", "noise", 1, granularity="block")


def test_a_model_must_answer_once_per_label():
  exp = tiny.shared()
  config = exp.recipe.train
  step = make_train_step(exp.run.model, config, exp.run.specs)
  state = initial_state(config, tiny.start_variables(exp), exp.run.specs)
  batch = exp.run.batches.batch(0)
  batch["label"] = np.repeat(batch["label"][:, None], 16, axis=1)
  with pytest.raises(ValueError, match=r"labels have shape \(16, 16\), the logits of ResNet"):
    step(state, batch, KEY)


def test_unknown_modes_are_named():
  with pytest.raises(ValueError, match="mode of phase 'x' must be one of .* got 'nosie'"):
    PhaseConfig("x", "nosie", 1)
