"""One trial of a comparison: a method at a budget with a seed, from configuration to result."""

from __future__ import annotations

import copy
import dataclasses
import fcntl
import json
import logging
import math
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import measure
from hetjax.core.precision import mean_bits
from hetjax.data import TextDataset, map_batches
from hetjax.learn import methods
from hetjax.learn.loop import predictions, scores
from hetjax.learn.recipe import Experiment, plain, recipe_of
from hetjax.nn.packing import float_variables
from hetjax.pack import float32_bytes, size_breakdown
from hetjax.report import write_json

FLOAT = "float32"
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Trial:
  """What to train.

  Raises:
    ValueError: options without a label, or a label without options.

  Attributes:
    method: A name of `hetjax.learn.methods.METHODS`, or "float32" for the network to compare with,
      trained in float mode for as many steps as any other method takes in all.
    seed: Of everything random.
    limit: Of the budget's quantity.
    quantity: What the budget limits.
    machine: Hardware target of a budget of latency.
    options: Changed fields of the configuration, "phase.field" -> value, with a label in front of
      them in the trial's name.
    label: Of the options.
  """

  method: str
  seed: int = 0
  limit: float = 2.0
  quantity: str = "mean_bits_params"
  machine: str | None = None
  options: tuple[tuple[str, Any], ...] = ()
  label: str = ""

  def __post_init__(self):
    if bool(self.options) != bool(self.label):
      raise ValueError(
        f"options need a label and a label options, got {self.options}, {self.label!r}"
      )

  @property
  def name(self) -> str:
    """Names files; `run_all` refuses two trials of one name."""
    parts = [self.method, *([self.label] if self.label else [])]
    if self.method != FLOAT:
      parts += [self.quantity, f"{self.limit:g}"]
    return "-".join([*parts, f"seed{self.seed}"])


def configured(config: Mapping[str, Any], trial: Trial) -> dict[str, Any]:
  """The recipe's configuration with what the trial changes.

  Raises:
    KeyError: an option names a field of no phase.
  """
  config = copy.deepcopy(dict(config))
  budget = {k: getattr(trial, k) for k in ("quantity", "limit", "machine")}
  config |= {"seed": trial.seed, "budget": {**config["budget"], **budget}}
  for path, value in trial.options:
    *phase, field = path.split(".")
    node = config
    for part in phase:
      node = node[part]
      if not isinstance(node, dict):
        raise KeyError(f"option {path!r} of trial {trial.name!r}: {part!r} has no fields")
    node[field] = value
  return config


def run_trial(
  config: Mapping[str, Any], trial: Trial, workdir: Path, splits: Sequence[str]
) -> dict[str, Any]:
  """Trains a trial, or resumes it, packs the network and scores the packed file.

  All trials of a seed whose float phase is configured alike share one float network.

  Args:
    config: Configuration of a recipe.
    trial: What to train.
    workdir: Folder of checkpoints and packed files of the whole comparison.
    splits: Parts of the data to score; choices are made without "test" among them.

  Returns:
    A JSON-able row.
  """
  config = configured(config, trial)
  recipe = recipe_of(config)
  if trial.method == FLOAT:
    steps = recipe.train.steps + recipe.search.steps + recipe.finetune.steps
    recipe = dataclasses.replace(recipe, train=dataclasses.replace(recipe.train, steps=steps))
    experiment = Experiment.create(recipe, str(workdir / trial.name))
    variables = float_variables(experiment.train_float(), experiment.run.specs)
    answers = {s: experiment.logits(variables, "float", s) for s in splits}
    return _row(experiment, trial, answers, float32_bytes(variables))
  experiment = Experiment.create(recipe)
  trained = _shared_start(experiment, workdir)
  experiment = experiment.in_workdir(str(workdir / trial.name))
  variables = methods.train(trial.method, experiment, trained)
  return _packed_row(experiment, trial, variables, workdir, splits)


def _shared_start(experiment: Experiment, workdir: Path) -> dict[str, Any]:
  """The float network that all trials with the same float phase start from.

  Whoever comes while another process trains it waits, and then finds it.
  """
  recipe = experiment.recipe
  settings = plain(
    dataclasses.asdict(recipe.train)
    | {k: getattr(recipe, k) for k in ("data", "model", "model_config", "batch_size", "seed")}
  )
  digest = zlib.crc32(json.dumps(settings, sort_keys=True).encode())
  folder = workdir / f"start-seed{recipe.seed}-{digest:08x}"
  folder.mkdir(parents=True, exist_ok=True)
  run = dataclasses.replace(experiment.run, workdir=str(folder), settings=settings)
  with open(folder / "lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed, by whatever end
    return dataclasses.replace(experiment, run=run).train_float()


def _row(
  experiment: Experiment, trial: Trial, answers: Mapping[str, np.ndarray], size: int
) -> dict[str, Any]:
  """What all trials tell; `answers` are a network's logits by part of the data."""
  recipe, data = experiment.recipe, experiment.dataset
  steps = recipe.train.steps
  if trial.method != FLOAT:
    steps += recipe.search.steps + recipe.finetune.steps
  scored = {s: scores(logits, data.labels(s)) for s, logits in answers.items()}
  row = {
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
    row["perplexity"] = {s: math.exp(loss) for s, loss in row["loss"].items()}
  return row


def _packed_row(experiment: Experiment, trial: Trial, variables, workdir: Path, splits) -> dict:
  run = experiment.run
  made = measure.pack(experiment, variables, workdir / f"{trial.name}.safetensors")
  artifact, variables, size = made.artifact, made.variables, made.file_bytes
  answers, unlike = {}, 0
  for split in splits:
    answers[split] = map_batches(made.network, experiment.dataset.inputs(split))
    trained = experiment.predict(variables, "quantized", split)
    unlike += int(np.sum(predictions(answers[split]) != trained))
  float_bytes = float32_bytes(float_variables(variables, run.specs))
  bits = artifact.assignment.bits
  return _row(experiment, trial, answers, size) | {
    "disagreements": unlike,
    "budget": {"quantity": trial.quantity, "limit": trial.limit, "machine": trial.machine},
    "mean_bits": float(mean_bits(bits, run.specs)),
    "mean_bits_macs": float(mean_bits(bits, run.specs, "macs")),
    "compression": float_bytes / size,
    "float_bytes": float_bytes,
    "sizes": size_breakdown(artifact),
    "channels": {n: {str(p): c for p, c in artifact.assignment.counts(n).items()} for n in bits},
  }


def _is_done(path: Path, settings: Mapping[str, Any], splits: Sequence[str]) -> bool:
  if not path.exists():
    return False
  record = json.loads(path.read_text(encoding="utf-8"))
  if record["config"] != json.loads(json.dumps(plain(settings))):
    raise ValueError(
      f"{path} was made with another configuration; choose another folder, or delete the file"
    )
  return record["rows"][0]["splits"] == list(splits)


def run_all(
  config: Mapping[str, Any],
  trials: Sequence[Trial],
  workdir: Path,
  results: Path,
  splits: Sequence[str],
) -> list[str]:
  """Runs the trials that have no result yet; one that fails is reported and does not stop the rest.

  A result scored on other parts of the data is scored anew, from the trial's last checkpoint.

  Args:
    config: Configuration of a recipe.
    trials: What to train.
    workdir: Folder of checkpoints and packed files.
    results: Folder of the results, one `NAME.json` each.
    splits: See `run_trial`.

  Returns:
    Names of the trials that failed.

  Raises:
    ValueError: two trials have one name, or a result was made with another configuration.
  """
  names = [trial.name for trial in trials]
  if len(set(names)) != len(names):
    raise ValueError(f"trials must differ in name, got {sorted(names)}")
  failed = []
  for trial in trials:
    path = results / f"{trial.name}.json"
    if _is_done(path, configured(config, trial), splits):
      continue
    begun = time.monotonic()
    try:
      row = run_trial(config, trial, workdir, splits)
    except Exception:  # whatever it is, the other trials may do
      _log.exception("trial %s failed", trial.name)
      failed.append(trial.name)
      continue
    seconds = time.monotonic() - begun
    settings = configured(config, trial)
    write_json(path, [row], seed=trial.seed, config=plain(settings), seconds=seconds)
    print(
      f"{trial.name}: {row['accuracy']}, {row['file_bytes']} bytes, {seconds:.0f} s", flush=True
    )
  return failed
