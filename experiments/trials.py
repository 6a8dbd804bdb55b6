"""One trial of a comparison: a method at a budget with a seed, from configuration to result."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import logging
import time
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import scoring
from experiments.trial import FLOAT, QWIX, Trial, configured
from hetjax.learn import methods
from hetjax.learn.checkpoint import differences
from hetjax.learn.phases import Run
from hetjax.learn.recipe import Experiment, plain, recipe_of
from hetjax.nn.packing import float_variables
from hetjax.pack import float32_bytes
from hetjax.report import write_json

_log = logging.getLogger(__name__)


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
    # It is followed by no phase that could go on with its weights, so its rates end at zero.
    optimizer = dataclasses.replace(recipe.train.optimizer, end_fraction=None)
    train = dataclasses.replace(recipe.train, steps=steps, optimizer=optimizer)
    recipe = dataclasses.replace(recipe, train=train)
    experiment = Experiment.create(recipe, str(workdir / trial.name))
    variables = float_variables(experiment.train_float(), experiment.run.specs)
    answers = {s: experiment.logits(variables, "float", s) for s in splits}
    return scoring.row(experiment, trial, answers, float32_bytes(variables))
  experiment = Experiment.create(recipe)
  trained = shared_start(experiment, workdir)
  experiment = experiment.in_workdir(str(workdir / trial.name))
  if trial.method == QWIX:
    return scoring.qwix_row(experiment, trial, trained, splits)
  variables = methods.train(trial.method, experiment, trained)
  return scoring.packed_row(experiment, trial, variables, workdir, splits)


def start_of(experiment: Experiment, workdir: Path) -> Run:
  """The run of the float network that all trials with the same float phase start from.

  It has no levels, so trials with other palettes share it.
  """
  recipe = experiment.recipe
  shared = ("data", "data_options", "model", "batch_size", "seed")
  settings = plain(recipe.train) | plain({k: getattr(recipe, k) for k in shared})
  fields = {k: v for k, v in recipe.model_config.items() if k != "palette"}
  settings |= {"model_config": plain(fields)}
  settings["dataset"] = experiment.dataset.name
  digest = zlib.crc32(json.dumps(settings, sort_keys=True).encode())
  folder = workdir / f"start-seed{recipe.seed}-{digest:08x}"
  return dataclasses.replace(experiment.run, workdir=str(folder), settings=settings)


def shared_start(experiment: Experiment, workdir: Path) -> dict[str, Any]:
  """The variables of `start_of`, trained if that was not done yet.

  Whoever comes while another process trains it waits, and then finds it.
  """
  run = start_of(experiment, workdir)
  Path(run.workdir).mkdir(parents=True, exist_ok=True)
  with open(f"{run.workdir}/lock", "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed, by whatever end
    return dataclasses.replace(experiment, run=run).train_float()


def result(config: Mapping[str, Any], trial: Trial, results: Path) -> dict[str, Any] | None:
  """The row of a trial's result file; None if there is no such file.

  Raises:
    ValueError: the file was made with another configuration, or is no result.
  """
  path = results / f"{trial.name}.json"
  if not path.exists():
    return None
  try:
    record = json.loads(path.read_text(encoding="utf-8"))
    recipe, (row,) = record["recipe"], record["rows"]
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(f"{path} is not the result of a trial: {error!r}") from error
  now = _recorded(configured(config, trial))
  if changed := differences(*(_of_matter(r, trial) for r in (recipe, now))):
    raise ValueError(
      f"{path} was made with another configuration; choose another folder, or delete the file: "
      + "; ".join(changed)
    )
  return row


def _of_matter(recipe: Mapping[str, Any], trial: Trial) -> dict[str, Any]:
  """A recorded recipe, of a float network without what is about bits, but for the steps."""
  if trial.method != FLOAT:
    return dict(recipe)
  steps = sum(recipe[phase]["steps"] for phase in ("train", "search", "finetune"))
  bits = ("search", "finetune", "budget", "target")
  fields = {k: v for k, v in recipe["model_config"].items() if k != "palette"}
  kept = {k: v for k, v in recipe.items() if k not in bits}
  return kept | {"train": recipe["train"] | {"steps": steps}, "model_config": fields}


def _recorded(config: Mapping[str, Any]) -> Any:
  """A configuration's recipe as JSON has it, the contents of target files included."""
  return json.loads(json.dumps(plain(recipe_of(config))))


def run_all(
  config: Mapping[str, Any],
  trials: Sequence[Trial],
  workdir: Path,
  results: Path,
  splits: Sequence[str],
) -> list[str]:
  """Runs the trials that have no result yet; one that fails is reported and does not stop the rest.

  A result that lacks a part of the data is scored anew, from the trial's last checkpoint; its
  record then adds up the seconds and lists the provenance of "earlier" runs.

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
    done = result(config, trial, results)
    if done is not None and set(splits) <= set(done["splits"]):
      continue
    begun = time.monotonic()
    try:
      row = run_trial(config, trial, workdir, splits)
    except Exception:  # whatever it is, the other trials may do
      _log.exception("trial %s failed", trial.name)
      failed.append(trial.name)
      continue
    path = results / f"{trial.name}.json"
    earlier = json.loads(path.read_text(encoding="utf-8")) if done is not None else {}
    seconds = time.monotonic() - begun + earlier.get("seconds", 0.0)
    settings = configured(config, trial)
    write_json(
      path,
      [row],
      seed=trial.seed,
      config=plain(settings),
      recipe=_recorded(settings),
      seconds=seconds,
      # Of the runs that trained and scored it before.
      earlier=earlier.get("earlier", []) + ([earlier["provenance"]] if earlier else []),
    )
    print(
      f"{trial.name}: {row['accuracy']}, {row['file_bytes']} bytes, {seconds:.0f} s", flush=True
    )
  return failed
