"""Whether learned bits are the network's or chance: a trial's search, done again with another seed.

Command: python -m experiments.repeatability --config experiments/configs/compare_fashion_mnist.py \
  --workdir runs/compare --trial heterogeneous-file_bytes-17500-seed0 --json repeated.json

Both searches start from the trial's float network. What the workdir does not hold yet is trained.
"""

from __future__ import annotations

from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from experiments import launch, repeated, trials
from hetjax.learn.methods import GRANULARITIES
from hetjax.learn.recipe import plain, recipe_of
from hetjax.report import render, write_json

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of checkpoints; what it lacks is trained.")
_TRIAL = flags.DEFINE_string("trial", None, "Name of the trial.")
_SEED = flags.DEFINE_integer("seed", 1000, "Of the second search's noise and order of images.")
_JSON = flags.DEFINE_string("json", None, "File for the table, or none.")
flags.mark_flags_as_required(["config", "workdir", "trial"])


def main(argv):
  launch.begin(argv)
  config, seed = _CONFIG.value.to_dict(), _SEED.value
  del config["splits"]
  wanted = (trials.Trial(**dict(t)) for t in config.pop("trials"))
  named = {t.name: t for t in wanted if GRANULARITIES.get(t.method) == "channel"}
  if _TRIAL.value not in named:
    raise app.UsageError(f"--trial must be one of {sorted(named)}, got {_TRIAL.value!r}")
  trial = named[_TRIAL.value]
  if seed == trial.seed:
    raise app.UsageError(f"--seed must differ from the trial's, got {seed}")
  settings = trials.configured(config, trial)
  workdir = Path(_WORKDIR.value)
  rows = repeated.repeated_rows(recipe_of(settings), trial, workdir, seed)
  if _JSON.value:
    write_json(Path(_JSON.value), rows, trial=trial.name, seed=seed, config=plain(settings))
  print(render(rows, repeated.COLUMNS))


if __name__ == "__main__":
  app.run(main)
