"""Ways to a network of few bits, all from one float network in the same number of steps.

A method is a function `(experiment, trained) -> variables` with an assignment, `trained` being the
float network's variables. What it may spend is `recipe.budget` (but for `uniform`, which
see); steps are those of search and finetune together. To add one, write the function and name it in
`METHODS`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from hetjax.core import Assignment
from hetjax.core.precision import get_path
from hetjax.learn import baselines, phases
from hetjax.learn.assign import assign
from hetjax.learn.overhead import measured
from hetjax.learn.phase import PhaseConfig
from hetjax.learn.prices import prices_of
from hetjax.learn.recipe import Experiment, Recipe

Variables = Mapping[str, Any]
Method = Callable[[Experiment, Variables], Variables]


def granules_of(recipe: Recipe) -> dict[int, int] | None:
  """Level -> granule of the recipe's target; None without a target."""
  if recipe.target is None:
    return None
  return {level.bits: level.granule for level in recipe.target.levels}


GRANULARITIES: Mapping[str, str] = MappingProxyType(
  {"heterogeneous": "channel", "layerwise": "layer"}
)
"""Methods that learn bits -> for what each bit is learned, see `PhaseConfig.granularity`."""


def search_phase(method: str, recipe: Recipe) -> PhaseConfig:
  """The search of a method that learns bits.

  Raises:
    ValueError: the method is not one of `GRANULARITIES`.
  """
  if method not in GRANULARITIES:
    raise ValueError(f"method must be one of {sorted(GRANULARITIES)}, got {method!r}")
  name = _prefix(method) + recipe.search.name
  return dataclasses.replace(recipe.search, name=name, granularity=GRANULARITIES[method])


def _prefix(method: str) -> str:
  """Of phases' names: checkpoints of one method must not pass for another's."""
  return "" if method == "heterogeneous" else f"{method}-"


def search_levels(
  method: str, experiment: Experiment, trained: Variables
) -> tuple[Variables, Assignment]:
  """What a method that learns bits has before it is finetuned.

  Args:
    method: One of `GRANULARITIES`.
    experiment: Its budget's overhead measured.
    trained: The float network's variables.

  Returns:
    Variables at the end of the search, and the levels that their learned bits are given.

  Raises:
    ValueError: the method learns no bits.
  """
  recipe = experiment.recipe
  search = search_phase(method, recipe)
  searched = phases.search(experiment.run, search, trained).variables
  assignment = phases.assign_levels(
    experiment.run,
    searched,
    recipe.budget,
    granules=granules_of(recipe),
    whole_layers=search.granularity == "layer",
  )
  return searched, assignment


def _learned(method: str, experiment: Experiment, trained: Variables) -> Variables:
  searched, assignment = search_levels(method, experiment, trained)
  finetune = experiment.recipe.finetune
  finetune = dataclasses.replace(finetune, name=_prefix(method) + finetune.name)
  return phases.finetune(experiment.run, finetune, searched, assignment, trained).variables


def heterogeneous(experiment: Experiment, trained: Variables) -> Variables:
  """Bits learned per input channel: search, assignment, finetuning."""
  return _learned("heterogeneous", experiment, trained)


def layerwise(experiment: Experiment, trained: Variables) -> Variables:
  """Bits learned per layer, otherwise as `heterogeneous`."""
  return _learned("layerwise", experiment, trained)


def _finetuned(
  method: str, experiment: Experiment, trained: Variables, assignment: Assignment
) -> Variables:
  """Straight-through training for as many steps as search and finetuning take together."""
  recipe = experiment.recipe
  phase = dataclasses.replace(
    recipe.finetune,
    name=_prefix(method) + recipe.finetune.name,
    steps=recipe.search.steps + recipe.finetune.steps,
  )
  return phases.finetune(experiment.run, phase, trained, assignment, trained).variables


def uniform(experiment: Experiment, trained: Variables) -> Variables:
  """One level for all layers that are not pinned, see `uniform_assignment`."""
  return _finetuned("uniform", experiment, trained, uniform_assignment(experiment))


def uniform_assignment(experiment: Experiment) -> Assignment:
  """The level that spends most nearly the budget, by its ratio, in all layers not pinned.

  One level can seldom spend a budget exactly, and it may spend more: of mean bits those of the
  pinned layers do not count here, so that a uniform network of p bits is that of p mean bits.

  Raises:
    ValueError: the layers' palettes have no level in common.
  """
  specs, budget = experiment.run.specs, experiment.recipe.budget
  palettes = [set(s.palette.levels) for s in specs.values() if s.pinned_bits is None]
  levels = sorted(set.intersection(*palettes)) if palettes else []
  if not levels:
    raise ValueError("uniform needs a level that all layers' palettes have, there is none")
  prices = prices_of(budget, specs)

  def spends(level: int) -> float:
    if budget.quantity.startswith("mean_bits"):
      return level
    return prices.quantity(prices.total(Assignment.uniform(specs, level)))

  nearest = min(levels, key=lambda level: abs(math.log(spends(level) / budget.limit)))
  return Assignment.uniform(specs, nearest)


def random(experiment: Experiment, trained: Variables) -> Variables:
  """Levels by chance under the budget."""
  recipe = experiment.recipe
  assignment = baselines.assign_random(
    experiment.run.specs, recipe.budget, recipe.seed, granules=granules_of(recipe)
  )
  return _finetuned("random", experiment, trained, assignment)


def weight_rms(experiment: Experiment, trained: Variables) -> Variables:
  """More bits to channels with larger weights under the budget."""
  recipe, specs = experiment.recipe, experiment.run.specs
  layers = {name: get_path(trained["params"], name) for name in specs}
  kernels = {name: layer["kernel"] * layer["alpha"] for name, layer in layers.items()}
  assignment = baselines.assign_by_weight_rms(
    kernels, specs, recipe.budget, granules=granules_of(recipe)
  )
  return _finetuned("weight_rms", experiment, trained, assignment)


METHODS: Mapping[str, Method] = MappingProxyType(
  {
    "heterogeneous": heterogeneous,
    "layerwise": layerwise,
    "random": random,
    "uniform": uniform,
    "weight_rms": weight_rms,
  }
)


def train(method: str, experiment: Experiment, trained: Variables) -> Variables:
  """Variables of the network that a method makes of a float network: how methods are called.

  Before the first step a file's overhead is measured, and a budget that no levels can keep is
  refused.

  Raises:
    ValueError: an unknown method, or a budget below the least that can be reached.
  """
  if method not in METHODS:
    raise ValueError(f"method must be one of {sorted(METHODS)}, got {method!r}")
  experiment = measured(experiment, trained)
  if method != "uniform":
    recipe, specs = experiment.recipe, experiment.run.specs
    least = {n: np.full(s.in_channels, s.palette.pmin) for n, s in specs.items()}
    assign(least, specs, recipe.budget, granules=granules_of(recipe))
  return METHODS[method](experiment, trained)
