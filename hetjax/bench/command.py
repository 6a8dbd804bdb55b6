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
from hetjax.bench.rows import Row
from hetjax.bench.suite import BENCHMARKS, arguments
from hetjax.bench.worker import environment
from hetjax.core.files import write_atomically
from hetjax.report import render, write_json

Answer = dict[str, Any]


def measure(
  benchmark: str, threads: Sequence[int], options: Mapping[str, Any], isa: str | None = None
) -> Answer:
  """Runs a benchmark in one fresh process per number of threads.

  Returns:
    "rows" of all, "about" (see `worker.about`), and what else the benchmark gives.

  Raises:
    ValueError: a number of threads or an option does not fit.
    RuntimeError: a process failed; the message is the last line that it printed.
  """
  arguments(benchmark, options)  # a wrong option is found before anything runs
  answer: Answer = {"rows": [], "about": {}}
  for count in threads:
    variables = os.environ | environment(count, isa)
    with tempfile.TemporaryDirectory() as folder:
      request, reply = Path(folder, "request.json"), Path(folder, "reply.json")
      asked = {"benchmark": benchmark, "threads": count, "options": dict(options)}
      request.write_text(json.dumps(asked), encoding="utf-8")
      command = [sys.executable, "-m", "hetjax.bench.worker", str(request), str(reply)]
      done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
      if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"measuring with {count} threads failed: {lines[-1]}")
      found = json.loads(reply.read_text(encoding="utf-8"))
    answer |= found | {"rows": answer["rows"] + found["rows"]}
  return answer


def main(
  benchmark: str,
  *,
  threads: Sequence[int],
  options: Mapping[str, Any],
  isa: str | None = None,
  json_path: str | None = None,
  plot_path: str | None = None,
  markdown_path: str | None = None,
  target_path: str | None = None,
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
    target_path: Where the target of "calibrate" goes.

  Raises:
    ValueError: something named does not exist or does not fit.
    RuntimeError: a measurement failed, or matplotlib is missing for a plot.
    OSError: a file cannot be read or written.
  """
  name = f"bench:{benchmark}"
  if plot_path:
    plots.require()  # these three before minutes of measuring
    plots.plot_of(benchmark)
  if markdown_path:
    markdown.replace(markdown_path, name, None)
  answer = measure(benchmark, threads, options, isa)
  rows, about = answer["rows"], answer["about"]
  note, table = describe(about, isa), tables(benchmark, rows)
  print(f"{BENCHMARKS[benchmark].title}\n{note}\n\n{table}")
  if json_path:
    write_json(json_path, rows, benchmark=benchmark, about=about, options=dict(options), isa=isa)
  if plot_path:
    plots.plot_of(benchmark)(plot_path, rows, BENCHMARKS[benchmark])
  if markdown_path:
    markdown.replace(markdown_path, name, markdown.section(note, table))
  if target_path:
    write_atomically(target_path, answer["target"].encode())


def tables(benchmark: str, rows: Sequence[Row]) -> str:
  """The table of what ran, without empty columns, and below it why the rest did not.

  Layers that a target's costs were fitted to are counted only.
  """
  ran = [row for row in rows if "missing" not in row and not row.get("fitted")]
  columns = BENCHMARKS[benchmark].columns
  used = [c for c in columns if any(row.get(c.key) is not None for row in ran)]
  lines = [render(ran, used)]
  reasons = dict.fromkeys((r["engine"], r["missing"]) for r in rows if "missing" in r)
  lines += [f"missing: {engine}: {reason}" for engine, reason in reasons]
  return "\n".join([*lines, *_errors(rows)])


def _errors(rows: Sequence[Row]) -> list[str]:
  """How well times were predicted, of layers that the fit did not see and of those that it saw."""
  lines = []
  for fitted, which in ((False, "these layers, which the fit did not see"), (True, "those it saw")):
    errors = [abs(row["error"]) for row in rows if row.get("fitted") is fitted]
    if errors:
      mean, largest = 100 * sum(errors) / len(errors), 100 * max(errors)
      lines.append(
        f"mean absolute error on {which} ({len(errors)}): {mean:.1f} %, largest {largest:.1f} %"
      )
  return lines


def describe(about: Mapping[str, Any], isa: str | None) -> str:
  """Engine, compiler, instruction set, peers and the machine's other work in words."""
  engine = about["hetjax"]
  ours = engine.get("missing")
  ours = ours or f"instruction set {engine['isa']}, built with {engine['compiler']}"
  versions: dict[str, list[str]] = {}
  for name, version in about["peers"].items():
    versions.setdefault(version, []).append(name)
  peers = "; ".join(f"{', '.join(names)} {version}" for version, names in versions.items())
  lines = [f"hetjax: {ours}", f"peers: {peers}"]
  lines.append(f"processes that wanted to run before it began: {about['load_before']:.1f}")
  if isa:
    told = "hetjax, XLA, OpenVINO, PyTorch"
    lines.append(f"held to {isa}: {told}; others cannot be told and use all there is")
  return "\n".join(lines)
