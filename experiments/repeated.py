"""Whether a search would learn the same bits again: what channels differ in, and what is chance."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.trial import Trial
from experiments.trials import shared_start
from hetjax.core.precision import learned_bits
from hetjax.data import training_batches
from hetjax.learn import methods, phases
from hetjax.learn.overhead import measured
from hetjax.learn.recipe import Experiment, Recipe
from hetjax.report import Column

_ALIKE = 1e-4  # bits, rounding errors of learned ones

COLUMNS = (
  Column("layer", "layer"),
  Column("channels", "channels"),
  Column("mean", "mean bits", lambda v: f"{v:.2f}"),
  Column("again", "again", lambda v: f"{v:.2f}"),
  Column("spread", "std in the layer", lambda v: f"{v:.2f}"),
  Column("change", "rms change", lambda v: f"{v:.2f}"),
  Column("correlation", "correlation", lambda v: f"{v:.2f}"),
)


def repeated_rows(recipe: Recipe, trial: Trial, workdir: Path, seed: int) -> list[dict[str, Any]]:
  """Learned bits of a trial's search beside those of another search from the same float network.

  The second one sees batches in another order, calibrates on another one, and draws other noise.
  Each search is trained, or resumed, or found where it has been trained.

  Args:
    recipe: The trial's.
    trial: Of a method that learns bits per channel.
    workdir: Folder of the comparison's checkpoints.
    seed: Of the second search's order and noise.

  Returns:
    A row for `COLUMNS` for every layer that learned bits: their means in both searches, their
    standard deviation over the layer's channels in the first, the root mean square of the change
    from one to the other less the change of the mean, and the correlation over channels.

  Raises:
    ValueError: the method learns no bits per channel, or the seed is the trial's.
  """
  if methods.GRANULARITIES.get(trial.method) != "channel":
    raise ValueError(f"method must learn bits per channel, got {trial.method!r}")
  if seed == trial.seed:
    raise ValueError(f"seed must differ from the trial's, got {seed}")
  experiment = Experiment.create(recipe)
  trained = shared_start(experiment, workdir)
  experiment = measured(experiment.in_workdir(str(workdir / trial.name)), trained)
  search = methods.search_phase(trial.method, experiment.recipe)
  run, specs = experiment.run, experiment.run.specs
  other = dataclasses.replace(
    run,
    workdir=str(workdir / f"{trial.name}-again{seed}"),
    batches=training_batches(experiment.dataset, recipe.batch_size, seed),
    loop=dataclasses.replace(run.loop, seed=seed),
    settings={**run.settings, "again": seed},
  )
  first, second = (
    jax.device_get(learned_bits(phases.search(r, search, trained).precision, specs))
    for r in (run, other)
  )
  return [
    _row(name, np.asarray(first[name]), np.asarray(second[name]))
    for name, spec in specs.items()
    if spec.pinned_bits is None
  ]


def _row(name: str, first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
  centred = [bits - bits.mean() for bits in (first.astype(np.float64), second.astype(np.float64))]
  power = float(np.sqrt(np.mean(centred[0] ** 2) * np.mean(centred[1] ** 2)))
  return {
    "layer": name,
    "channels": len(first),
    "mean": float(first.mean()),
    "again": float(second.mean()),
    "spread": float(first.std()),
    "change": float(np.sqrt(np.mean((centred[0] - centred[1]) ** 2))),
    # Channels that are all alike correlate with nothing.
    "correlation": float(np.mean(centred[0] * centred[1]) / power) if power > _ALIKE**2 else None,
  }
