"""Rows of a comparison: what a trained trial scores and what its file takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from experiments import measure, qwix_peer
from experiments.trial import FLOAT, Trial
from hetjax.core import Assignment
from hetjax.core.layers import LayerSpecs
from hetjax.core.precision import mean_bits
from hetjax.data import TextDataset, map_batches
from hetjax.learn.loop import predictions, scores
from hetjax.learn.recipe import Experiment
from hetjax.nn.packing import float_variables
from hetjax.pack import float32_bytes, size_breakdown


def row(
  experiment: Experiment, trial: Trial, answers: Mapping[str, np.ndarray], size: int
) -> dict[str, Any]:
  """What all trials tell; `answers` are a network's logits by part of the data."""
  recipe, data = experiment.recipe, experiment.dataset
  steps = recipe.train.steps
  if trial.method != FLOAT:
    steps += recipe.search.steps + recipe.finetune.steps
  scored = {s: scores(logits, data.labels(s)) for s, logits in answers.items()}
  told = {
    "name": trial.name,
    "data": data.name,
    "method": trial.method,
    "label": trial.label,
    "seed": trial.seed,
    "splits": list(answers),
    "epochs": steps / experiment.run.batches.steps_per_epoch,
    "file_bytes": size,
    "accuracy": {s: score["accuracy"] for s, score in scored.items()},
    "loss": {s: score["loss"] for s, score in scored.items()},
  }
  if isinstance(data, TextDataset):
    told["perplexity"] = {s: math.exp(loss) for s, loss in told["loss"].items()}
  return told


def qwix_row(experiment: Experiment, trial: Trial, trained, splits) -> dict[str, Any]:
  bits, specs = int(trial.limit), experiment.run.specs
  size = qwix_peer.packed_bytes(experiment, trained, bits)
  changed, variables = qwix_peer.train(experiment, trained, bits)
  answers = {s: changed.logits(variables, "float", s) for s in splits}
  float_bytes = float32_bytes(float_variables(trained, specs))
  levels = Assignment.uniform(specs, bits).bits
  return row(experiment, trial, answers, size) | _spent(trial, levels, specs, float_bytes, size)


def _spent(trial: Trial, bits, specs: LayerSpecs, float_bytes: int, size: int) -> dict[str, Any]:
  return {
    "budget": {"quantity": trial.quantity, "limit": trial.limit, "machine": trial.machine},
    "mean_bits": float(mean_bits(bits, specs)),
    "mean_bits_macs": float(mean_bits(bits, specs, "macs")),
    "compression": float_bytes / size,
    "float_bytes": float_bytes,
  }


def packed_row(experiment: Experiment, trial: Trial, variables, workdir: Path, splits) -> dict:
  run = experiment.run
  made = measure.pack(experiment, variables, workdir / f"{trial.name}.safetensors")
  artifact, size = made.artifact, made.file_bytes
  answers, unlike = {}, 0
  for split in splits:
    answers[split] = map_batches(made.network, experiment.dataset.inputs(split))
    trained = experiment.predict(made.variables, "quantized", split)
    unlike += int(np.sum(predictions(answers[split]) != trained))
  float_bytes = float32_bytes(float_variables(variables, run.specs))
  bits = artifact.assignment.bits
  spent = _spent(trial, bits, run.specs, float_bytes, size)
  return (
    row(experiment, trial, answers, size)
    | spent
    | {
      "disagreements": unlike,
      "sizes": size_breakdown(artifact),
      "channels": {n: {str(p): c for p, c in artifact.assignment.counts(n).items()} for n in bits},
    }
  )
