"""Plots of benchmark rows. Needs matplotlib, which is optional."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hetjax.bench.rows import OURS
from hetjax.core.files import write_atomically


def require():
  """matplotlib's figure class, which needs no display.

  Raises:
    RuntimeError: matplotlib is not installed.
  """
  try:
    from matplotlib.figure import Figure
  except ImportError as error:
    raise RuntimeError("plots need matplotlib: install the extra 'peers'") from error
  return Figure


def save(figure, path: str) -> None:
  """Writes a figure; the path's ending says in which format."""
  import io

  data = io.BytesIO()
  figure.savefig(data, format=Path(path).suffix.lstrip(".") or "svg", bbox_inches="tight")
  Path(path).absolute().parent.mkdir(parents=True, exist_ok=True)
  write_atomically(path, data.getvalue())


def bars(path: str, rows: Sequence[Mapping[str, Any]], benchmark) -> None:
  """Speed per problem and engine with quartiles, one panel per number of threads."""
  rows = [row for row in rows if "gmacs" in row]
  threads = sorted({row["threads"] for row in rows})
  engines = list(dict.fromkeys((row["engine"], row["mix"]) for row in rows))
  name = lambda row: ", ".join(str(row[key]) for key in benchmark.label)
  problems = list(dict.fromkeys(map(name, rows)))
  figure = require()(figsize=(2 + 1.6 * len(problems), 4 * len(threads)))
  panels = figure.subplots(len(threads), squeeze=False)[:, 0]
  width = 0.8 / max(len(engines), 1)
  for panel, count in zip(panels, threads, strict=True):
    for i, engine in enumerate(engines):
      here = [r for r in rows if r["threads"] == count and (r["engine"], r["mix"]) == engine]
      x = [problems.index(name(row)) + (i + 0.5) * width - 0.4 for row in here]
      speed = [row["gmacs"] for row in here]
      # Quartiles of time are those of speed the other way round.
      slow = [row["gmacs"] * (1 - row["microseconds"] / row["high"]) for row in here]
      fast = [row["gmacs"] * (row["microseconds"] / row["low"] - 1) for row in here]
      label = f"{engine[0]} {engine[1]}" if engine[0] == OURS else engine[0]
      panel.bar(x, speed, width, yerr=[slow, fast], label=label, error_kw={"linewidth": 0.7})
    panel.set_xticks(range(len(problems)), problems, rotation=20, ha="right")
    panel.set_ylabel(f"GMAC/s, {count} thread" + "s" * (count > 1))
    panel.grid(axis="y", alpha=0.3)
  panels[0].set_title(benchmark.title)
  panels[0].legend(ncols=3, fontsize="small")
  save(figure, path)
