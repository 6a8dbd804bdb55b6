"""Recipes as data."""

import pytest

from hetjax.hardware import load_target
from hetjax.learn.distillation import Distillation
from hetjax.learn.recipe import Recipe, recipe_of
from tests.shared import tiny_config


def _config(**changes):
  return tiny_config.get_config().to_dict() | changes


def _mean(limit):
  return {"quantity": "mean_bits_params", "limit": limit}


def test_a_config_becomes_three_phases():
  search = _config()["search"] | {"regularizers": ({"name": "mean_bits_macs", "weight": 0.1},)}
  recipe = recipe_of(_config(search=search, budget={"quantity": "mean_bits_macs", "limit": 3.5}))
  assert isinstance(recipe, Recipe)
  assert [p.name for p in (recipe.train, recipe.search, recipe.finetune)] == [
    "float", "search", "finetune"
  ]  # fmt: skip
  assert [p.mode for p in (recipe.train, recipe.search, recipe.finetune)] == [
    "float", "noise", "quantized"
  ]  # fmt: skip
  assert recipe.search.budget.quantity == "mean_bits_macs"
  assert recipe.search.budget.limit == recipe.budget.limit == 3.5
  assert recipe.search.regularizers[0].name == "mean_bits_macs"
  assert recipe.search.optimizer.precision_rate == 1e-2
  assert recipe.train.budget is None


def test_the_config_is_not_changed():
  config = _config()
  before = repr(config)
  recipe_of(config)
  assert repr(config) == before


def test_a_budget_of_latency_names_its_machine():
  budget = {"quantity": "latency_us", "limit": 90, "machine": "cpu_avx2_zen2"}
  assert recipe_of(_config(budget=budget)).budget.machine == load_target("cpu_avx2_zen2")


@pytest.mark.parametrize(
  ("changes", "error", "match"),
  [
    ({"sedd": 1}, TypeError, r"recipe has unknown fields \['sedd'\]"),
    ({"finetune": {"steps": 3, "freeze_fraction": 0.5}}, TypeError, "unknown .*freeze_fraction"),
    ({"search": {"steps": 3, "norm_batches": 5}}, TypeError, "unknown fields .*norm_batches"),
    ({"train": {"steps": 3, "lr": 1}}, TypeError, r"phase 'float' has unknown fields \['lr'\]"),
    ({"finetune": {}}, TypeError, r"phase 'finetune' lacks fields \['steps'\]"),
    ({"finetune": {"steps": 0}}, ValueError, "steps of phase 'finetune'"),
    ({"budget": _mean(0.5)}, ValueError, "limit of mean_bits_params must be at least 1, got 0.5"),
    ({"budget": _mean(float("nan"))}, ValueError, "got nan"),
    ({"budget": {"quantity": "bytes", "limit": 9}}, ValueError, "'bytes'"),
    ({"budget": {"quantity": "file_bytes"}}, TypeError, r"budget lacks fields \['limit'\]"),
    ({"search": {"steps": 3, "mode": "nois"}}, ValueError, "search mode must be one of .*'nois'"),
    ({"budget": _mean(2) | {"overhead_bytes": 1}}, TypeError, "unknown fields"),
  ],
  ids=str,
)
def test_wrong_fields_are_named(changes, error, match):
  with pytest.raises(error, match=match):
    recipe_of(_config(**changes))


@pytest.mark.parametrize("field", ["data", "search", "budget"])
def test_missing_fields_are_named(field):
  config = _config()
  del config[field]
  with pytest.raises(TypeError, match=rf"recipe lacks fields \['{field}'\]"):
    recipe_of(config)


def test_distillation_is_part_of_a_phase():
  finetune = _config()["finetune"] | {"distillation": {"weight": 0.5}}
  assert recipe_of(_config(finetune=finetune)).finetune.distillation == Distillation(0.5, 2.0)
  with pytest.raises(TypeError, match="distillation of phase 'finetune' has unknown fields"):
    recipe_of(_config(finetune=finetune | {"distillation": {"temprature": 1}}))
