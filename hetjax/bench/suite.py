"""The benchmarks by name, and the choices that a command line makes among their parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hetjax.bench import calibrate, layers, limits, matvec, networks, profile, sweep, training
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
    seconds: Default time per problem.
    problems: What `only` chooses among, by name.
    label: Keys of a row that name its problem, for plots.
  """

  title: str
  columns: tuple[Column, ...]
  seconds: float
  problems: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  label: tuple[str, ...] = ()


def _named(specs: Sequence[Any]) -> dict[str, Any]:
  return {spec.name: spec for spec in specs}


_NETWORKS = _named(networks.NETWORKS)
BENCHMARKS = {
  "limits": Benchmark("Limits of this machine", limits.COLUMNS, 1.0),
  "layers": Benchmark(
    "Convolutions with bias and ReLU, batch 1", layers.COLUMNS, 2.0, _named(CONVS), ("layer",)
  ),
  "sweep": Benchmark("3x3 convolutions, cost against size", sweep.COLUMNS, 0.2),
  "matvec": Benchmark(
    "Matrix times vectors", matvec.COLUMNS, 2.0, _named(MATVECS), ("layer", "place")
  ),
  "networks": Benchmark(
    "Networks with random weights, batch 1", networks.COLUMNS, 10.0, _NETWORKS, ("network",)
  ),
  "profile": Benchmark("Packed networks by layer", profile.COLUMNS, 5.0, _NETWORKS),
  "training": Benchmark(
    "Steps of training", training.COLUMNS, 20.0, _named(training.WORKLOADS), ("network",)
  ),
  "calibrate": Benchmark("Time per layer, measured and predicted", calibrate.COLUMNS, 0.15),
}
_FIRST_MIX_ONLY = ("sweep", "networks", "profile")


def chosen(what: str, named: Mapping[str, Any], wanted: Sequence[str] | None) -> list[Any]:
  """Entries whose names contain one of some texts; all for None, none for no texts.

  Raises:
    ValueError: a text is in no name.
  """
  if wanted is None:
    return list(named.values())
  for text in wanted:
    if not any(text.lower() in name.lower() for name in named):
      raise ValueError(f"{what} must be parts of {list(named)}, got {text!r}")
  return [v for k, v in named.items() if any(text.lower() in k.lower() for text in wanted)]


def arguments(benchmark: str, options: Mapping[str, Any]) -> dict[str, Any]:
  """Keywords of a benchmark's `measure` from options, see `run`."""
  found: dict[str, Any] = {"seconds": options.get("seconds") or BENCHMARKS[benchmark].seconds}
  if BENCHMARKS[benchmark].problems:
    found["specs"] = chosen("only", BENCHMARKS[benchmark].problems, options.get("only"))
  if benchmark in ("layers", "matvec", "networks"):
    found["peers"] = chosen("peers", _named(PEERS), options.get("peers"))
  if benchmark not in ("limits", "calibrate", "training"):
    mixes = chosen("mixes", {mix: mix for mix in MIXES}, options.get("mixes"))
    all_by_default = options.get("mixes") is not None or benchmark not in _FIRST_MIX_ONLY
    found["mixes"] = mixes if all_by_default else mixes[:1]
  return found


def run(
  benchmark: str, threads: int, options: Mapping[str, Any]
) -> tuple[list[Row], dict[str, Any]]:
  """Measures in this process.

  Args:
    benchmark: A key of `BENCHMARKS`.
    threads: How many every engine uses; the process must already be limited to them.
    options: "seconds" per problem, lists of texts "only", "peers" and "mixes" that choose among
      problems, peers and mixes, and for "calibrate" the "name" of the target. All may be missing.

  Returns:
    The rows, and beside them the "target" as JSON text of "calibrate".

  Raises:
    ValueError: an option fits nothing.
  """
  found = arguments(benchmark, options)
  if benchmark == "calibrate":
    target, rows = calibrate.calibrate(options["name"], threads=threads, **found)
    return rows, {"target": target.to_json()}
  modules = {
    "limits": limits,
    "layers": layers,
    "sweep": sweep,
    "matvec": matvec,
    "networks": networks,
    "profile": profile,
    "training": training,
  }
  return modules[benchmark].measure(threads, **found), {}
