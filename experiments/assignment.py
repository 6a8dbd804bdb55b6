"""How far levels are from learned bits, and what the step between them costs in accuracy.

Command: python -m experiments.assignment --config experiments/configs/compare_fashion_mnist.py \
  --workdir runs/compare --split valid

Reads results and checkpoints of the trials of `experiments.compare` that learned bits and are done,
scores the network before and after assignment, trains nothing, and writes `assignment.json` beside
the results, unless --only leaves trials out.
"""

from __future__ import annotations

from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from experiments import assigned, launch, points, trials
from hetjax.learn.methods import GRANULARITIES
from hetjax.learn.recipe import plain, recipe_of
from hetjax.report import render, write_json

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of checkpoints.")
_RESULTS = flags.DEFINE_string("results", None, "Folder of results; WORKDIR/results if not given.")
_ONLY = flags.DEFINE_string("only", "", "Only trials whose name contains this.")
_SPLIT = flags.DEFINE_string("split", "valid", "Part of the data to score.")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv):
  launch.begin(argv)
  config, split = _CONFIG.value.to_dict(), _SPLIT.value
  del config["splits"]
  wanted = [trials.Trial(**dict(t)) for t in config.pop("trials")]
  workdir = Path(_WORKDIR.value)
  results = Path(_RESULTS.value) if _RESULTS.value else workdir / "results"
  rows, missing = [], []
  for trial in wanted:
    done = trials.result(config, trial, results)
    if trial.method not in GRANULARITIES or _ONLY.value not in trial.name or done is None:
      continue
    recipe = recipe_of(trials.configured(config, trial))
    finetuned = done["accuracy"].get(split)
    try:
      rows.append(assigned.assignment_row(recipe, trial, workdir, finetuned, split))
    except FileNotFoundError as error:
      missing.append({"name": trial.name, "missing": str(error)})
  if not rows and not missing:
    raise SystemExit(f"no finished trial of this configuration in {results} learned bits")
  if not _ONLY.value:
    path = results / points.ASSIGNMENT
    write_json(path, rows, split=split, missing=missing, config=plain(config))
  print(render(rows, assigned.COLUMNS))
  for row in missing:
    print(f"missing: {row['name']}: {row['missing']}")


if __name__ == "__main__":
  app.run(main)
