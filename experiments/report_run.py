"""One heterogeneous run from configuration to table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.measure import COLUMNS, network_rows
from hetjax.learn import methods
from hetjax.learn.recipe import Experiment, recipe_of
from hetjax.report import render, write_json


def train_and_report(config: Mapping[str, Any], workdir: str, json_path: str) -> None:
  """Trains (or resumes), packs to `workdir`, prints the table and writes it as JSON."""
  recipe = recipe_of(config)
  experiment = Experiment.create(recipe, workdir)
  trained = experiment.train_float()
  variables = methods.train("heterogeneous", experiment, trained)
  rows = network_rows(experiment, trained, {"heterogeneous": variables}, workdir)
  print(render(rows, COLUMNS))
  write_json(json_path, rows, seed=recipe.seed, config=dict(experiment.run.settings))
