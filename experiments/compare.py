"""Trains networks by several methods in the same epochs and compares accuracy at equal size.

Command: python -m experiments.compare --config experiments/configs/compare_fashion_mnist.py \
  --workdir runs/compare

Every trial leaves one JSON file under --results. Run again, the command trains what is missing and
prints the table of all; killed, a trial resumes from its last checkpoint. Several processes share
the work: --shard=0/2 and --shard=1/2 take every other trial.
"""

from __future__ import annotations

from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from experiments import launch, trials
from hetjax.report import Column, render

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of checkpoints and packed files.")
_RESULTS = flags.DEFINE_string("results", None, "Folder of results; WORKDIR/results if not given.")
_SHARD = flags.DEFINE_string("shard", "0/1", "Which of how many parts of the trials to run.")
_ONLY = flags.DEFINE_string("only", "", "Run only trials whose name contains this.")
_TABLE = flags.DEFINE_bool("table", False, "Train nothing, print the table of what there is.")
flags.mark_flags_as_required(["config", "workdir"])


def columns(splits, text: bool) -> tuple[Column, ...]:
  """Columns of the table for rows scored on these parts of the data."""
  percent = lambda v: f"{v:.2f}"
  score, unit = ("perplexity", "perplexity") if text else ("accuracy", "%")
  digits = (lambda v: f"{v:.4f}") if text else percent
  return (
    Column("name", "trial"),
    *(Column(f"{score}_{s}", f"{s} {unit}", digits) for s in splits),
    Column("mean_bits", "bits by params", percent),
    Column("mean_bits_macs", "by MACs", percent),
    Column("file_bytes", "file bytes"),
    Column("compression", "compression", lambda v: f"{v:.2f}x"),
    Column("epochs", "epochs", lambda v: f"{v:.1f}"),
  )


def shard(names, text: str) -> list:
  """Every n-th of `names` from the i-th on, for the text "i/n".

  Raises:
    ValueError: the text is not of this form, or i is not in 0 .. n - 1.
  """
  part, slash, whole = text.partition("/")
  if not (slash and part.isdecimal() and whole.isdecimal() and int(part) < int(whole)):
    raise ValueError(f"shard must be I/N with 0 <= I < N, got {text!r}")
  return list(names)[int(part) :: int(whole)]


def main(argv):
  launch.begin(argv)
  config = _CONFIG.value.to_dict()
  splits, wanted = tuple(config.pop("splits")), config.pop("trials")
  workdir = Path(_WORKDIR.value)
  results = Path(_RESULTS.value) if _RESULTS.value else workdir / "results"
  chosen = [trials.Trial(**dict(t)) for t in wanted]
  failed = []
  if not _TABLE.value:
    mine = [t for t in shard(chosen, _SHARD.value) if _ONLY.value in t.name]
    failed = trials.run_all(config, mine, workdir, results, splits)
  rows = [row for t in chosen if (row := trials.result(config, t, results)) is not None]
  for row in rows:
    for score in ("accuracy", "perplexity"):
      row |= {f"{score}_{s}": v for s, v in row.get(score, {}).items()}
  print(render(rows, columns(splits, any("perplexity" in row for row in rows))))
  if failed:
    raise SystemExit(f"{len(failed)} trials failed: {', '.join(failed)}")


if __name__ == "__main__":
  app.run(main)
