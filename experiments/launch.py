"""How the launchers that train begin."""

from __future__ import annotations

from collections.abc import Sequence

from absl import app, flags, logging

from hetjax.learn import keep_memory


def begin(argv: Sequence[str]) -> None:
  """Refuses arguments that are no flags, quietens libraries, and sees to the process's memory.

  Raises:
    UsageError: there are arguments that are no flags.
  """
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments {argv[1:]}")
  if flags.FLAGS.verbosity <= logging.INFO:  # orbax tells dozens of lines a checkpoint there
    logging.set_verbosity(logging.WARNING)
  keep_memory()
