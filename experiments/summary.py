"""Writes what a comparison found, seeds together: score, loss against float32, bits and size.

Command: python -m experiments.summary --results runs/compare/results --split valid

Reads the trials' result files. With --markdown it also rewrites the table that the page marks with
the results folder's name.
"""

from __future__ import annotations

from pathlib import Path

from absl import app, flags

from experiments import launch, seeds

_RESULTS = flags.DEFINE_string("results", None, "Folder of result files.")
_SPLIT = flags.DEFINE_string("split", "test", "Part of the data that was scored.")
_MARKDOWN = flags.DEFINE_string("markdown", None, "Page whose marked table is rewritten.")
flags.mark_flags_as_required(["results"])


def main(argv):
  launch.begin(argv)
  print(seeds.table(Path(_RESULTS.value), _SPLIT.value, _MARKDOWN.value))


if __name__ == "__main__":
  app.run(main)
