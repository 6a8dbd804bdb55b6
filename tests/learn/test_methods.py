"""What each method hands to the phases. tests/experiments/test_compare.py trains by all of them."""

import numpy as np
import pytest

from hetjax.hardware import load_target, target_names
from hetjax.learn import methods, phases
from tests.shared import tiny

STATE = type("State", (), {"variables": {}})


@pytest.fixture
def finetuned(monkeypatch):
  """Phase and assignment of every finetuning, which does not take place."""
  seen = []

  def record(run, phase, start, assignment, teacher):
    seen.append((phase, assignment))
    return STATE

  monkeypatch.setattr(phases, "finetune", record)
  return seen


@pytest.mark.parametrize("method", ["random", "uniform", "weight_rms"])
def test_what_is_not_searched_is_finetuned_for_longer(finetuned, method):
  exp = tiny.experiment()
  methods.train(method, exp, tiny.start_variables(exp))
  phase, assignment = finetuned[0]
  assert phase.steps == exp.recipe.search.steps + exp.recipe.finetune.steps
  assert set(assignment.bits) == set(exp.run.specs)


def test_methods_in_one_folder_do_not_take_each_others_checkpoints(finetuned, monkeypatch):
  searches = []
  monkeypatch.setattr(phases, "search", lambda run, phase, _: searches.append(phase) or STATE)
  monkeypatch.setattr(phases, "assign_levels", lambda *_, **__: None)
  exp = tiny.experiment()
  for method in methods.METHODS:
    methods.train(method, exp, tiny.start_variables(exp))
  names = [phase.name for phase, _ in finetuned]
  assert len(set(names)) == len(methods.METHODS) and "finetune" in names
  assert len({phase.name for phase in searches}) == len(searches) == 2


def test_another_limit_rules_the_search_too():
  exp = tiny.experiment("somewhere").with_limit(2.25)
  assert exp.recipe.budget.limit == exp.recipe.search.budget.limit == 2.25
  assert exp.run.workdir is None and exp.run.settings["budget"]["limit"] == 2.25


def test_a_uniform_network_has_one_level_but_for_pinned_layers(finetuned):
  exp = tiny.experiment(budget__limit=2.0)
  methods.uniform(exp, {})
  for name, spec in exp.run.specs.items():
    assert set(finetuned[0][1].bits[name].tolist()) == {spec.pinned_bits or 2}


def test_larger_weights_get_more_bits(finetuned):
  exp = tiny.experiment()
  variables = tiny.start_variables(exp)
  layer = variables["params"]["stage0_block0"]["conv1"]
  kernel = np.array(layer["kernel"])
  kernel[:, :, 2] *= 100
  changed = {**variables["params"]["stage0_block0"], "conv1": {**layer, "kernel": kernel}}
  params = {**variables["params"], "stage0_block0": changed}
  methods.weight_rms(exp, {**variables, "params": params})
  assert finetuned[0][1].bits["stage0_block0/conv1"][2] == 4


@pytest.mark.parametrize(
  "method, granularity", [("heterogeneous", "channel"), ("layerwise", "layer")]
)
def test_a_search_obeys_budget_and_target(monkeypatch, method, granularity):
  exp = tiny.experiment(target=target_names()[0])
  seen = {}

  def search(run, phase, trained):
    seen["granularity"] = phase.granularity
    return STATE

  monkeypatch.setattr(phases, "search", search)
  monkeypatch.setattr(
    phases,
    "assign_levels",
    lambda *args, **options: seen.update(options, budget=args[2]),
  )
  monkeypatch.setattr(phases, "finetune", lambda *_: STATE)
  methods.train(method, exp, {})
  assert seen["granularity"] == granularity and seen["whole_layers"] == (granularity == "layer")
  assert seen["budget"] == exp.recipe.budget and seen["budget"].limit == 3.5
  levels = load_target(target_names()[0]).levels
  assert seen["granules"] == {level.bits: level.granule for level in levels}


def test_only_methods_that_learn_bits_have_a_search():
  recipe = tiny.shared().recipe
  assert methods.search_phase("layerwise", recipe).granularity == "layer"
  with pytest.raises(ValueError, match="method must be one of .*'heterogeneous'.* got 'uniform'"):
    methods.search_phase("uniform", recipe)
