"""The guide's examples: short, and they do what the guide says."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

from hetjax.learn import phases
from hetjax.learn.methods import granules_of
from hetjax.learn.overhead import measured
from hetjax.learn.prices import prices_of
from hetjax.learn.recipe import Experiment, recipe_of
from tests.shared import tiny

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"
EXAMPLES = dict(re.findall(r"```python (\w+\.py)\n(.*?)```", GUIDE.read_text(), re.DOTALL))


@pytest.fixture
def example(request, tmp_path):
  """Experiment of an example in the guide, its network and steps made small."""
  name = request.param
  path = tmp_path / name
  path.write_text(EXAMPLES[name])
  spec = importlib.util.spec_from_file_location(f"guide_{path.stem}", path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config()
  config.data, config.model, config.batch_size = "synthetic", "resnet", 16
  config.model_config.update({"stage_sizes": (1,), "widths": (16,)})
  for phase in ("train", "search", "finetune"):
    config[phase].steps = 3
  return Experiment.create(recipe_of(config.to_dict()), str(tmp_path / "work"), quiet=True)


def _searched(experiment):
  """Variables and metrics after a few steps of search, and levels."""
  trained = tiny.start_variables(experiment)
  experiment = measured(experiment, trained)
  run, recipe = experiment.run, experiment.recipe
  searched = phases.search(run, recipe.search, trained).variables
  levels = phases.assign_levels(run, searched, recipe.budget, granules=granules_of(recipe))
  return experiment, levels, (Path(run.workdir) / "metrics" / "search.jsonl").read_text()


def test_the_guide_has_its_three_examples_and_they_are_short():
  assert set(EXAMPLES) == {"smooth.py", "extremes.py", "paper_chip.py"}
  assert all(len(text.strip().splitlines()) < 30 for text in EXAMPLES.values())


@pytest.mark.parametrize("example", ["smooth.py"], indirect=True)
def test_the_regularizer_is_part_of_the_search(example):
  _, _, metrics = _searched(example)
  assert '"penalty/smooth"' in metrics
  assert [r.name for r in example.recipe.search.regularizers] == ["smooth"]


@pytest.mark.parametrize("example", ["extremes.py"], indirect=True)
def test_the_palette_rules_the_levels(example):
  experiment, levels, _ = _searched(example)
  used = np.unique(np.concatenate(list(levels.bits.values())))
  assert set(used.tolist()) == {1, 8}
  prices = prices_of(experiment.recipe.budget, experiment.run.specs)
  assert prices.total(levels) <= prices.limit


@pytest.mark.parametrize("example", ["paper_chip.py"], indirect=True)
def test_the_machine_s_budget_and_granules_are_kept(example):
  experiment, levels, _ = _searched(example)
  budget = experiment.recipe.budget
  assert budget.machine == experiment.recipe.target and budget.machine.name == "paper_chip"
  prices = prices_of(budget, experiment.run.specs)
  assert prices.total(levels) <= prices.limit
  for name in prices.specs:
    ragged = [p for p, count in levels.counts(name).items() if count % 8]
    assert len(ragged) <= 1
