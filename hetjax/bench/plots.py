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
  figure = require()(figsize=(5 + 1.8 * len(problems), 4 * len(threads)), layout="constrained")
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
      style = {"color": f"C{i % 10}", "hatch": "//" if i >= 10 else None}
      panel.bar(
        x, speed, width, yerr=[slow, fast], label=label, error_kw={"linewidth": 0.7}, **style
      )
    panel.set_xticks(range(len(problems)), problems, rotation=20, ha="right")
    panel.set_ylabel(f"GMAC/s, {count} thread" + "s" * (count > 1))
    panel.grid(axis="y", alpha=0.3)
  figure.suptitle(benchmark.title)
  figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize="small")
  save(figure, path)


def sweeps(path: str, rows: Sequence[Mapping[str, Any]], benchmark) -> None:
  """Time per multiply-accumulate over size and over output channels."""
  axes = {"size": ("macs", "multiply-accumulates"), "outputs": ("outputs", "output channels")}
  figure = require()(figsize=(11, 4))
  for panel, (sweep, (key, title)) in zip(figure.subplots(1, 2), axes.items(), strict=True):
    here = [row for row in rows if row["sweep"] == sweep]
    for threads, mix in dict.fromkeys((row["threads"], row["mix"]) for row in here):
      line = [row for row in here if (row["threads"], row["mix"]) == (threads, mix)]
      x, y = [row[key] for row in line], [row["picoseconds_per_mac"] for row in line]
      panel.plot(x, y, marker="o", label=f"{mix}, {threads} thread" + "s" * (threads > 1))
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlabel(title)
    panel.set_ylabel("ps per multiply-accumulate")
    panel.grid(which="both", alpha=0.3)
    panel.legend(fontsize="small")
  figure.suptitle(benchmark.title)
  save(figure, path)


def predictions(path: str, rows: Sequence[Mapping[str, Any]], benchmark) -> None:
  """Predicted against measured time of every layer."""
  figure = require()(figsize=(6, 5))
  panel = figure.subplots()
  for fitted, label in ((True, "fitted"), (False, "mixed layers, not fitted")):
    here = [row for row in rows if row["fitted"] == fitted]
    panel.plot([r["measured"] for r in here], [r["predicted"] for r in here], "o", label=label)
  ends = [f(row["measured"] for row in rows) for f in (min, max)]
  panel.plot(ends, ends, color="gray", linewidth=0.7)
  panel.set_xscale("log")
  panel.set_yscale("log")
  panel.set_xlabel("measured us")
  panel.set_ylabel("predicted us")
  panel.set_title(benchmark.title)
  panel.legend()
  save(figure, path)


def plot_of(benchmark: str):
  """The function that plots a benchmark's rows.

  Raises:
    ValueError: there is none.
  """
  found = {
    "layers": bars,
    "matvec": bars,
    "networks": bars,
    "sweep": sweeps,
    "calibrate": predictions,
  }
  if benchmark not in found:
    raise ValueError(f"plot must be of one of {list(found)}, got {benchmark!r}")
  return found[benchmark]
