"""What an artifact holds besides its packed weights, measured before a search for its size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hetjax import models
from hetjax import nn as hnn
from hetjax.core import Assignment
from hetjax.learn.calibrate import calibrate
from hetjax.learn.recipe import Experiment
from hetjax.nn.packing import artifact_of, assignment_collection
from hetjax.pack import size_breakdown


def measured(experiment: Experiment, trained: Mapping[str, Any]) -> Experiment:
  """The experiment with the overhead of its budget known, if that counts a file's bytes.

  Args:
    experiment: Any experiment.
    trained: Variables of its float network.
  """
  budget = experiment.recipe.budget
  if budget.quantity != "file_bytes" or budget.overhead_bytes is not None:
    return experiment
  return experiment.with_overhead(overhead_bytes(experiment, trained))


def overhead_bytes(experiment: Experiment, trained: Mapping[str, Any]) -> int:
  """Bytes of header, levels, scales and whatever else is no weight code, of the slim network.

  Of the network with every channel at its highest level, whose header has the longest numbers. A
  trained network's may differ by a few bytes; which leaves are constant is up to training.
  """
  run = experiment.run
  highest = {n: [s.palette.pmax] * s.in_channels for n, s in run.specs.items()}
  levels = assignment_collection(Assignment.create(run.specs, highest), run.specs)
  free = {k: v for k, v in trained.items() if k != "precision"} | {"assignment": levels}
  fitted = calibrate(run.model, free, run.example(), run.specs)
  slim = hnn.slim(run.model, fitted, run.example()[:1])
  name, config = models.name_of(run.model), models.config_of(run.model)
  sizes = size_breakdown(artifact_of(name, config, slim, run.specs))
  return sum(size for part, size in sizes.items() if part != "codes")
