"""Trains a network through all phases, packs it, and reports.

Command: python -m experiments.train --config experiments/configs/digits.py --workdir runs/digits

Killed at any point, the same command resumes from the last checkpoint, bit for bit.
"""

from absl import app, flags
from ml_collections import config_flags

from experiments import launch, report_run

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of checkpoints, metrics and results.")
_JSON = flags.DEFINE_string("json", None, "Result file; WORKDIR/results.json if not given.")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv):
  launch.begin(argv)
  path = _JSON.value or f"{_WORKDIR.value}/results.json"
  report_run.train_and_report(_CONFIG.value.to_dict(), _WORKDIR.value, path)


if __name__ == "__main__":
  app.run(main)
