"""Plots what a comparison found: score against bytes and against measured time, by method.

Command: python -m experiments.pareto --results runs/compare/results --split valid \
  --out pareto.svg

Reads the trials' result files, and `latency.json` of `experiments.latency` if it is there.
"""

from __future__ import annotations

from pathlib import Path

from absl import app, flags

from experiments import launch, points

_RESULTS = flags.DEFINE_string("results", None, "Folder of result files.")
_SPLIT = flags.DEFINE_string("split", "test", "Part of the data whose score is plotted.")
_JOIN = flags.DEFINE_list("join", [], "Labels that are points of their method's line.")
_OUT = flags.DEFINE_string("out", "pareto.svg", "The plot; its ending says in which format.")
flags.mark_flags_as_required(["results"])


def main(argv):
  launch.begin(argv)
  rows = points.trial_rows(Path(_RESULTS.value), _SPLIT.value)
  points.plot(_OUT.value, rows, _SPLIT.value, _JOIN.value)
  print(f"{len(rows)} trials: {_OUT.value}")


if __name__ == "__main__":
  app.run(main)
