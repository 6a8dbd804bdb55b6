"""Points of a comparison's plot: score against bytes and against measured time, by method."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.trial import FLOAT
from hetjax.bench import plots
from hetjax.report.results import read_rows

LATENCY, ASSIGNMENT = "latency.json", "assignment.json"
NOT_TRIALS = (LATENCY, ASSIGNMENT)
AXES = {"file_bytes": "bytes of the file", "microseconds": "us for one example"}
Row = Mapping[str, Any]


def trial_rows(folder: Path, split: str) -> list[dict[str, Any]]:
  """Rows of a folder's trials that were scored on `split`, each with its score and times.

  "score" is accuracy in percent, or perplexity of text; "cross_entropy" is the mean over the split;
  "microseconds" is there if latency was measured.

  Raises:
    ValueError: there is none, or a file is no result.
  """
  measured = {row["name"]: row["microseconds"] for row in read_rows([folder / LATENCY])}
  found = []
  trials = (path for path in sorted(folder.glob("*.json")) if path.name not in NOT_TRIALS)
  for row in read_rows(trials):
    score = row.get("perplexity", row["accuracy"]).get(split)
    if score is not None:
      time = {"microseconds": measured[row["name"]]} if row["name"] in measured else {}
      scores = {"score": score, "cross_entropy": row["loss"][split]}
      found.append(dict(row) | scores | time)
  if not found:
    raise ValueError(f"results must hold trials scored on {split!r}, {folder} holds none")
  return found


def points(
  rows: Sequence[Row], axis: str, joined: Collection[str] = ()
) -> dict[str, list[tuple[float, float, float]]]:
  """Points of every method: value on the axis, mean score over seeds, half their range.

  Trials that differ in their seed alone are one point; trials with a label are methods of their
  own, but for labels in `joined`, which are points of the method's line. The float32 network is
  left out, as are rows without a value.
  """
  groups: dict[tuple[str, str, str], list[Row]] = {}
  for row in rows:
    if row["method"] != FLOAT and axis in row:
      label = row["label"]
      name = row["method"] + (f", {label}" if label and label not in joined else "")
      groups.setdefault((name, label, json.dumps(row["budget"])), []).append(row)
  lines: dict[str, list[tuple[float, float, float]]] = {}
  for (name, *_), same in groups.items():
    scores = [row["score"] for row in same]
    value = float(np.mean([row[axis] for row in same]))
    point = (value, float(np.mean(scores)), (max(scores) - min(scores)) / 2)
    lines.setdefault(name, []).append(point)
  return {name: sorted(line) for name, line in sorted(lines.items())}


def plot(path: str, rows: Sequence[Row], split: str, joined: Collection[str] = ()) -> None:
  """Writes one panel for bytes and, where times were measured, one for time.

  See `points` for `joined`.

  Raises:
    ValueError: no row has a label that is to be joined.
    RuntimeError: matplotlib is not installed.
  """
  if unknown := sorted(set(joined) - {row["label"] for row in rows}):
    labels = sorted({row["label"] for row in rows} - {""})
    raise ValueError(f"joined labels must be among {labels}, got {unknown}")
  axes = {axis: label for axis, label in AXES.items() if points(rows, axis, joined)}
  figure = plots.require()(figsize=(6.5 * max(len(axes), 1), 4.5), layout="constrained")
  text = any("perplexity" in row for row in rows)
  floats = [row["score"] for row in rows if row["method"] == FLOAT]
  panels = figure.subplots(1, max(len(axes), 1), squeeze=False)[0]
  for panel, (axis, label) in zip(panels, axes.items(), strict=True):
    for name, line in points(rows, axis, joined).items():
      x, y, spread = zip(*line, strict=True)
      panel.errorbar(x, y, yerr=spread, marker="o", markersize=4, capsize=2, label=name)
    if floats:
      panel.axhline(np.mean(floats), color="black", linewidth=0.8, linestyle="--", label=FLOAT)
    panel.set_xlabel(label)
    panel.set_ylabel(f"{split} perplexity" if text else f"{split} accuracy %")
    panel.legend(fontsize=8)
  plots.save(figure, path)
