"""Trains a network through all phases, packs it, and reports.

Command: python -m experiments.train --config experiments/configs/digits.py --workdir runs/digits

Killed at any point, the same command resumes from the last checkpoint, bit for bit.
"""

from absl import app, flags, logging
from ml_collections import config_flags

from experiments import report_run
from hetjax.learn import keep_memory

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of checkpoints, metrics and results.")
_JSON = flags.DEFINE_string("json", None, "Result file; WORKDIR/results.json if not given.")
flags.mark_flags_as_required(["config", "workdir"])


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments {argv[1:]}")
  if flags.FLAGS.verbosity <= logging.INFO:  # orbax tells dozens of lines a checkpoint there
    logging.set_verbosity(logging.WARNING)
  keep_memory()
  path = _JSON.value or f"{_WORKDIR.value}/results.json"
  report_run.train_and_report(_CONFIG.value.to_dict(), _WORKDIR.value, path)


if __name__ == "__main__":
  app.run(main)
