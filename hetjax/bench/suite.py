"""The benchmarks by name, and the choices that a command line makes among their parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hetjax.bench import layers, matvec
from hetjax.bench.peers import PEERS
from hetjax.bench.rows import Row
from hetjax.bench.workloads import CONVS, MATVECS, MIXES
from hetjax.report import Column


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """A benchmark of the command line.

  Attributes:
    title: What it measures.
    columns: Of its table.
    label: Keys of a row that name its problem.
  """

  title: str
  columns: tuple[Column, ...]
  label: tuple[str, ...]


BENCHMARKS = {
  "layers": Benchmark("Convolutions, batch 1, bias and ReLU", layers.COLUMNS, ("layer",)),
  "matvec": Benchmark("Matrix times vectors", matvec.COLUMNS, ("layer", "place")),
}


def chosen(what: str, named: Mapping[str, Any], wanted: Sequence[str] | None) -> list[Any]:
  """Entries whose names contain one of some texts, all without any.

  Raises:
    ValueError: a text is in no name.
  """
  if wanted is None:
    return list(named.values())
  for text in wanted:
    if not any(text.lower() in name.lower() for name in named):
      raise ValueError(f"{what} must be in one of {list(named)}, got {text!r}")
  return [v for k, v in named.items() if any(text.lower() in k.lower() for text in wanted)]


def run(benchmark: str, threads: int, options: Mapping[str, Any]) -> list[Row]:
  """Measures in this process.

  Args:
    benchmark: A key of `BENCHMARKS`.
    threads: How many every engine uses; the process must already be limited to them.
    options: "seconds", and lists of texts "only", "mixes" and "peers" that choose among problems,
      mixes and peers (None: all).

  Raises:
    ValueError: an option fits nothing.
  """
  mixes = chosen("mixes", {m: m for m in MIXES}, options.get("mixes"))
  peers = (
    []
    if options.get("peers") == []
    else chosen("peers", {p.name: p for p in PEERS}, options.get("peers"))
  )
  common = {"seconds": options["seconds"], "mixes": mixes, "peers": peers}
  if benchmark == "layers":
    specs = chosen("only", {s.name: s for s in CONVS}, options.get("only"))
    return layers.measure(threads, specs=specs, **common)
  specs = chosen("only", {s.name: s for s in MATVECS}, options.get("only"))
  return matvec.measure(threads, specs=specs, **common)
