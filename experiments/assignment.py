"""How far levels are from learned bits, and what the step between them costs in accuracy.

Command: python -m experiments.assignment --config experiments/configs/compare_fashion_mnist.py \
  --workdir runs/compare --split valid

Reads results and checkpoints of the trials of `experiments.compare` that learned bits and are done,
scores the network before and after assignment, trains nothing, and writes `assignment.json` beside
the results.
"""

from __future__ import annotations

from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from experiments import assigned, launch, points, trials
from hetjax.learn.methods import PREFIXES
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
  rows = []
  for trial in wanted:
    if trial.method not in PREFIXES or _ONLY.value not in trial.name:
      continue
    if (done := trials.result(config, trial, results)) is not None:
      recipe = recipe_of(trials.configured(config, trial))
      rows.append(
        assigned.assignment_row(recipe, trial, workdir, done["accuracy"].get(split), split)
      )
  if not rows:
    raise SystemExit(f"no finished trial of this configuration in {results} learned bits")
  write_json(results / points.ASSIGNMENT, rows, split=split, config=plain(config))
  print(render(rows, assigned.COLUMNS))


if __name__ == "__main__":
  app.run(main)
