"""Trials of a comparison that differ in their seed alone, together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import points
from experiments.trial import FLOAT
from hetjax.bench import markdown
from hetjax.report import Column, render

Row = Mapping[str, Any]


def _spread(values: Sequence[float]) -> float | None:
  """Half the range; None of a single value."""
  return (max(values) - min(values)) / 2 if len(values) > 1 else None


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
  """One row per method, label and budget, its trials being those that differ in their seed alone.

  "behind" is how far a trial's score is from the float32 network's of the same seed, on the side
  where it is worse: points of accuracy lost, or per cent of perplexity gained. A group with a seed
  that has no float32 network has none.
  """
  floats = {row["seed"]: row["score"] for row in rows if _is_baseline(row)}
  groups: dict[str, list[Row]] = {}
  for row in rows:
    key = json.dumps([row["method"], row["label"], row.get("budget")])
    groups.setdefault(key, []).append(row)
  return [_together(same, floats) for same in groups.values()]


def _is_baseline(row: Row) -> bool:
  return row["method"] == FLOAT and not row["label"]


def _together(same: Sequence[Row], floats: Mapping[int, float]) -> dict[str, Any]:
  first, scores = same[0], [row["score"] for row in same]
  told = {
    "name": "-".join(filter(None, (first["method"], first["label"]))),
    "budget": _budget(first.get("budget")),
    "seeds": len(same),
    "score": float(np.mean(scores)),
    "spread": _spread(scores),
    "epochs": first["epochs"],
  }
  if not _is_baseline(first) and all(row["seed"] in floats for row in same):
    behind = [_behind(row, floats[row["seed"]]) for row in same]
    told |= {"behind": float(np.mean(behind)), "behind_spread": _spread(behind)}
  entropies = [row["cross_entropy"] for row in same]
  told |= {"cross_entropy": float(np.mean(entropies)), "cross_entropy_spread": _spread(entropies)}
  for key in ("mean_bits", "mean_bits_macs"):
    if key in first:
      told[key] = float(np.mean([row[key] for row in same]))
  told["file_bytes"] = max(row["file_bytes"] for row in same)
  if "compression" in first:
    told["compression"] = min(row["compression"] for row in same)
  return told


def _behind(row: Row, float_score: float) -> float:
  if "perplexity" in row:
    return 100.0 * (row["score"] / float_score - 1.0)
  return float_score - row["score"]


def _budget(budget: Mapping[str, Any] | None) -> str | None:
  if budget is None:
    return None
  at = f" on {budget['machine']}" if budget["machine"] else ""
  return f"{budget['quantity']} {budget['limit']:.10g}{at}"


def columns(split: str, text: bool) -> tuple[Column, ...]:
  """Columns of the table; `text` if scores are perplexities."""
  two, digits = (lambda v: f"{v:.2f}"), (lambda v: f"{v:.4f}" if text else f"{v:.2f}")
  score, behind = ("perplexity", "worse by %") if text else ("accuracy %", "below float32")
  # Tells networks apart that accuracy does not, images being few; perplexity says it already.
  entropy = (
    Column("cross_entropy", "cross-entropy", lambda v: f"{v:.4f}"),
    Column("cross_entropy_spread", "+-", lambda v: f"{v:.4f}"),
  )
  return (
    Column("name", "method"),
    Column("budget", "budget"),
    Column("seeds", "seeds"),
    Column("score", f"{split} {score}", digits),
    Column("spread", "+-", digits),
    Column("behind", behind, two),
    Column("behind_spread", "+-", two),
    *(() if text else entropy),
    Column("mean_bits", "bits by params", two),
    Column("mean_bits_macs", "by MACs", two),
    Column("file_bytes", "file bytes"),
    Column("compression", "compression", lambda v: f"{v:.2f}x"),
    Column("epochs", "epochs", two),
  )


def table(folder: Path, split: str, page: str | None = None) -> str:
  """The table of a folder of results.

  Args:
    folder: Of the trials' result files.
    split: Part of the data that was scored.
    page: If given, the table between the marks of this page with the folder's name is rewritten.

  Raises:
    ValueError: there is no such result, or the page has no marks of that name.
  """
  if page is not None:
    markdown.replace(page, folder.name, None)
  rows = points.trial_rows(folder, split)
  text = render(summary(rows), columns(split, any("perplexity" in row for row in rows)))
  if page is not None:
    note = "Mean over seeds, +- half their range; of sizes the largest, of compressions the least."
    markdown.replace(page, folder.name, markdown.section(note, text))
  return text
