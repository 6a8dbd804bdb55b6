"""Matrix times a few vectors, weights in cache or from memory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from hetjax.bench import ours
from hetjax.bench.peers import PEERS, Candidate, Missing, Peer, Problem
from hetjax.bench.peers.selection import FLOAT_TOLERANCE, Wanted, ready
from hetjax.bench.rows import (
  ENGINE_COLUMNS,
  MISSING_COLUMN,
  OURS,
  RATIO_COLUMNS,
  Row,
  missing,
  timed,
  with_ratios,
)
from hetjax.bench.timing import bursts
from hetjax.bench.workloads import MATVECS, MIXES, MatvecSpec, bits_of, matvec_graph
from hetjax.report import Column

PLACES = ("cache", "memory")
COLUMNS = (
  Column("layer", "layer"),
  Column("place", "weights from"),
  *ENGINE_COLUMNS,
  Column("gigabytes_per_second", "GB/s", lambda v: f"{v:.1f}"),
  *RATIO_COLUMNS,
  Column("over_int4", "over int4", lambda v: f"{v:.2f}x"),
  MISSING_COLUMN,
)
TOLERANCES = {32: FLOAT_TOLERANCE, 8: 4 / 255, 4: 0.02, 2: 0.02}
FOOTPRINT = 256e6  # bytes of all copies together, beyond any cache


def in_turn(candidates: Sequence[Candidate]) -> Candidate:
  """One candidate that runs the next of several at every call."""
  turns = itertools.cycle(candidates)
  first = candidates[0]
  return Candidate(first.setting, lambda: next(turns).run(), first.result, first.layers)


def _copies(weight_bytes: float, footprint: float) -> int:
  return max(1, int(np.ceil(footprint / weight_bytes)))


def _peer_copies(peer: Peer, problem: Problem, best: Candidate, count: int) -> list[Candidate]:
  """`best` and as many more, each with weights of its own."""
  more = []
  for _ in range(count - 1):
    more += [c for c in peer.candidates(problem) if c.setting == best.setting][:1]
  for candidate in more:
    candidate.run()
  return [best, *more]


def measure(
  threads: int,
  *,
  seconds: float = 2.0,
  specs: Sequence[MatvecSpec] = MATVECS,
  mixes: Sequence[str] = tuple(MIXES),
  peers: Sequence[Peer] = PEERS,
  places: Sequence[str] = PLACES,
  footprint: float = FOOTPRINT,
) -> list[Row]:
  """Rows of all matrices; see `layers.measure`.

  Args:
    threads: How many every engine uses.
    seconds: Per matrix and place, all engines together.
    specs: The matrices.
    mixes: Keys of `workloads.MIXES`.
    peers: Engines to compare with.
    places: "cache" repeats one copy of the weights, which stays in cache if it fits; "memory" goes
      through copies of `footprint` bytes in all, so that each comes from memory.
    footprint: Bytes.
  """
  out: list[Row] = []
  for spec, place in itertools.product(specs, places):
    found: dict[tuple[str, str], Candidate] = {}
    absent, sizes = [], {}
    x = np.random.default_rng(0).normal(size=(spec.batch, spec.channels))
    wanted = Wanted(Problem(matvec_graph(spec), np.maximum(x, 0).astype(np.float32), threads))
    for peer in peers:
      key = (peer.name, f"{peer.bits}-bit")
      sizes[key] = spec.channels * spec.outputs * peer.bits / 8
      try:
        best = ready(peer, [wanted], TOLERANCES)
        count = _copies(sizes[key], footprint) if place == "memory" else 1
        found[key] = in_turn(_peer_copies(peer, wanted.problem, best, count))
      except Missing as reason:
        absent.append(missing(*key[:1], peer.bits, str(reason)))
    for mix in mixes:
      key = (OURS, mix)
      sizes[key] = float(np.sum(bits_of(MIXES[mix], spec.channels))) * spec.outputs / 8
      count = _copies(sizes[key], footprint) if place == "memory" else 1
      found[key] = in_turn(ours.dense_candidates(spec, MIXES[mix], count))
    times = bursts({key: c.run for key, c in found.items()}, seconds=seconds)
    here = [
      timed(*key, times[key], candidate, spec.macs)
      | {"gigabytes_per_second": sizes[key] / times[key].median / 1e9}
      for key, candidate in found.items()
    ]
    about = {"layer": spec.name, "place": place, "macs": spec.macs, "threads": threads}
    out += [about | row for row in with_ratios([*here, *absent])]
  return out
