"""What turning learned bits into levels changes, and costs, in a comparison's finished trials."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.trial import Trial
from experiments.trials import shared_start, start_of
from hetjax.core.precision import learned_bits
from hetjax.data import map_batches
from hetjax.learn import budget as budgets
from hetjax.learn import methods, phases
from hetjax.learn.assign import assignment_report
from hetjax.learn.loop import scores
from hetjax.learn.overhead import measured
from hetjax.learn.recipe import Experiment, Recipe
from hetjax.report import Column

COLUMNS = (
  Column("name", "trial"),
  Column("limit", "limit", lambda v: f"{v:.6g}"),
  Column("learned", "learned", lambda v: f"{v:.6g}"),
  Column("off", "off by", lambda v: f"{v:+.2f} %"),
  Column("assigned", "assigned", lambda v: f"{v:.6g}"),
  Column("rms_change", "rms change, bits", lambda v: f"{v:.2f}"),
  Column("noisy", "% under noise", lambda v: f"{v:.2f}"),
  Column("levels", "% at levels", lambda v: f"{v:.2f}"),
  Column("finetuned", "% finetuned", lambda v: f"{v:.2f}"),
)


def assignment_row(
  recipe: Recipe, trial: Trial, workdir: Path, finetuned: float | None, split: str
) -> dict[str, Any]:
  """Bits and accuracy on both sides of the assignment, from the checkpoints of a finished trial.

  Args:
    recipe: The trial's.
    trial: Of a method that learns bits.
    workdir: Folder of the comparison's checkpoints.
    finetuned: Accuracy of the trial's result.
    split: Part of the data to score.

  Returns:
    A row for `COLUMNS`: the budgeted quantity at the end of the search and how far, in per cent, it
    is from the limit; at the levels; the change in bits, root mean square over weights; accuracy in
    per cent under one draw of noise at learned bits, at the levels before any finetuning, and
    after it.

  Raises:
    FileNotFoundError: the last checkpoint of the float phase or of the search is not there.
    ValueError: the method learns no bits.
  """
  search = methods.search_phase(trial.method, recipe)
  experiment = Experiment.create(recipe, quiet=True)
  run, folder = experiment.run, workdir / trial.name
  start = start_of(experiment, workdir)
  for owner, phase in ((Path(start.workdir), recipe.train), (folder, search)):
    last = owner / "checkpoints" / phase.name / str(phase.steps)
    if not last.is_dir():
      raise FileNotFoundError(f"{last}, the last checkpoint of a finished phase, does not exist")
  trained = shared_start(experiment, workdir)
  experiment = measured(experiment.in_workdir(str(folder)), trained)
  searched, assignment = methods.search_levels(trial.method, experiment, trained)
  learned = jax.device_get(learned_bits(searched["precision"], run.specs))
  budget = experiment.recipe.budget
  quantity = lambda bits: float(budgets.measure(budget, bits, run.specs))
  labels = experiment.dataset.labels(split)
  noise = {"noise": jax.random.key(recipe.seed)}
  apply = jax.jit(functools.partial(run.model.apply, mode=recipe.search.mode, rngs=noise))
  noisy = map_batches(functools.partial(apply, searched), experiment.dataset.inputs(split))
  levels = phases.at_levels(run, recipe.finetune, searched, assignment)
  return {
    "name": trial.name,
    "limit": budget.limit,
    "learned": quantity(learned),
    "off": 100.0 * (quantity(learned) / budget.limit - 1.0),
    "assigned": quantity({n: np.asarray(b, np.float32) for n, b in assignment.bits.items()}),
    "rms_change": assignment_report(learned, assignment, run.specs)["rms_change"],
    "noisy": scores(noisy, labels)["accuracy"],
    "levels": scores(experiment.logits(levels, "quantized", split), labels)["accuracy"],
    "finetuned": finetuned,
  }
