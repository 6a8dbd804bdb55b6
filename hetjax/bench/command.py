"""`python -m hetjax bench`: measures, prints, and leaves a file, a plot or a page."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hetjax.bench import markdown, plots
from hetjax.bench.suite import BENCHMARKS
from hetjax.bench.worker import environment
from hetjax.report import render, write_json


def measure(
  benchmark: str, threads: Sequence[int], options: Mapping[str, Any], isa: str | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
  """Runs a benchmark in one fresh process per number of threads.

  Returns:
    The rows of all, and what `worker.about` says.

  Raises:
    ValueError: a number of threads or an option does not fit.
    RuntimeError: a process failed; its message is the last line it printed.
  """
  rows, about = [], {}
  for count in threads:
    variables = os.environ | environment(count, isa)
    with tempfile.TemporaryDirectory() as folder:
      request, reply = Path(folder, "request.json"), Path(folder, "reply.json")
      asked = {"benchmark": benchmark, "threads": count, "options": dict(options)}
      request.write_text(json.dumps(asked), encoding="utf-8")
      command = [sys.executable, "-m", "hetjax.bench.worker", str(request), str(reply)]
      done = subprocess.run(command, env=variables, stderr=subprocess.PIPE, text=True, check=False)
      if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"measuring with {count} threads failed: {lines[-1]}")
      answer = json.loads(reply.read_text(encoding="utf-8"))
    rows += answer["rows"]
    about = answer["about"]
  return rows, about


def main(
  benchmark: str,
  *,
  threads: Sequence[int],
  options: Mapping[str, Any],
  isa: str | None = None,
  json_path: str | None = None,
  plot_path: str | None = None,
  markdown_path: str | None = None,
) -> None:
  """Measures and reports.

  Args:
    benchmark: A key of `BENCHMARKS`.
    threads: Numbers of threads, one process each.
    options: See `suite.run`.
    isa: See `worker.environment`.
    json_path: Where the rows go with their provenance.
    plot_path: Where the plot goes; the ending says in which format.
    markdown_path: A page whose marked part the table replaces.

  Raises:
    ValueError: something named does not exist or does not fit.
    RuntimeError: a measurement failed, or matplotlib is missing for a plot.
  """
  if plot_path:
    plots.require()  # before minutes of measuring
  rows, about = measure(benchmark, threads, options, isa)
  columns = used_columns(BENCHMARKS[benchmark].columns, rows)
  table = render(rows, columns)
  note = describe(about, isa)
  print(f"{BENCHMARKS[benchmark].title}\n{note}\n\n{table}")
  if json_path:
    write_json(json_path, rows, benchmark=benchmark, about=about, options=dict(options), isa=isa)
  if plot_path:
    plots.bars(plot_path, rows, BENCHMARKS[benchmark])
  if markdown_path:
    markdown.replace(markdown_path, f"bench:{benchmark}", markdown.section(note, table))


def used_columns(columns, rows):
  """Columns that some row fills."""
  return [c for c in columns if any(row.get(c.key) is not None for row in rows)]


def describe(about: Mapping[str, Any], isa: str | None) -> str:
  """Engine, compiler, instruction set and peers in words."""
  engine = about["hetjax"]
  ours = (
    engine.get("missing") or f"instruction set {engine['isa']}, built with {engine['compiler']}"
  )
  peers = ", ".join(f"{name} {version}" for name, version in about["peers"].items())
  lines = [f"hetjax: {ours}", f"peers: {peers}"]
  if isa:
    told = "hetjax, XLA, OpenVINO, PyTorch"
    lines.append(f"held to {isa}: {told}; others cannot be told and use all there is")
  return "\n".join(lines)
