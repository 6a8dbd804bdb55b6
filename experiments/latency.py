"""Batch-1 latency of a comparison's packed networks beside float32 engines, all in one run.

Command: python -m experiments.latency --config experiments/configs/compare_fashion_mnist.py \
  --workdir runs/compare

Takes the files that `experiments.compare` left in --workdir and its results; writes `latency.json`
beside the results and prints accuracy, bytes and time in one table. Engines that are not installed
(the extra `peers`) are named as missing; XLA always runs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from experiments import launch, measure, points, trials
from hetjax.learn.recipe import Experiment, plain, recipe_of
from hetjax.report import Column, render, write_json

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the packed files.")
_RESULTS = flags.DEFINE_string("results", None, "Folder of results; WORKDIR/results if not given.")
_THREADS = flags.DEFINE_integer("threads", 1, "Processors that every engine may use.")
_SECONDS = flags.DEFINE_float("seconds", 60.0, "Time for all networks and engines together.")
flags.mark_flags_as_required(["config", "workdir"])


def columns(splits: Sequence[str]) -> tuple[Column, ...]:
  """Columns of the table."""
  microseconds = lambda v: f"{v:.1f}"
  times = lambda v: f"{v:.2f}x"
  return (
    Column("name", "network"),
    *(Column(f"accuracy_{s}", f"{s} %", lambda v: f"{v:.2f}") for s in splits),
    Column("file_bytes", "file bytes"),
    Column("compression", "compression", times),
    Column("microseconds", "us", microseconds),
    Column("low", "25 %", microseconds),
    Column("high", "75 %", microseconds),
    Column("over_xla", "over XLA float32", times),
    Column("over_float32", "over fastest float32", times),
    Column("float32_peer", "which is"),
  )


def main(argv):
  allowed = sorted(os.sched_getaffinity(0))
  if not 1 <= _THREADS.value <= len(allowed):
    raise app.UsageError(f"threads must be 1 to {len(allowed)}, got {_THREADS.value}")
  os.sched_setaffinity(0, allowed[: _THREADS.value])  # before any engine starts its threads
  launch.begin(argv)
  config = _CONFIG.value.to_dict()
  splits, wanted = config.pop("splits"), [trials.Trial(**dict(t)) for t in config.pop("trials")]
  workdir = Path(_WORKDIR.value)
  results = Path(_RESULTS.value) if _RESULTS.value else workdir / "results"
  rows = [trials.result(config, trial, results) for trial in wanted]
  known = {row["name"]: row for row in rows if row is not None}
  files = measure.packed_files(known, workdir)
  if not files:
    raise SystemExit(f"no packed network of this configuration in {workdir}")
  experiment = Experiment.create(recipe_of(config))
  rows, absent = measure.beside_engines(experiment, files, _THREADS.value, _SECONDS.value)
  about = ("file_bytes", "compression", "method", "seed", "label", "budget", "accuracy")
  for row in rows:
    row |= {key: known[row["name"]].get(key) for key in about if row["name"] in known}
  write_json(results / points.LATENCY, rows, missing=absent, config=plain(config))
  for row in rows:
    row |= {f"accuracy_{s}": v for s, v in row.get("accuracy", {}).items()}
  print(render(rows, columns(splits)))
  for row in absent:
    print(f"missing: {row['engine']}: {row['missing']}")


if __name__ == "__main__":
  app.run(main)
