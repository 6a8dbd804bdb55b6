"""Matrix times a few vectors, weights in cache or from memory."""

from __future__ import annotations

import dataclasses
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


def _peer_copies(peer: Peer, problem: Problem, best: Candidate, count: int) -> list[Candidate]:
  """`best` and as many more, each with weights of its own."""
  more, wanted = [], dataclasses.replace(problem, setting=best.setting)
  for _ in range(count - 1):
    more += [c for c in peer.candidates(wanted) if c.setting == best.setting][:1]
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
  for spec in specs:
    copies, absent = _contenders(
      spec, threads, mixes, peers, footprint if "memory" in places else 0
    )
    for place in places:
      kept = slice(None) if place == "memory" else slice(1)
      found = {key: in_turn(candidates[kept]) for key, candidates in copies.items()}
      times = bursts({key: c.run for key, c in found.items()}, seconds=seconds)
      here = [
        timed(*key, times[key], candidate, spec.macs)
        | {"gigabytes_per_second": _weight_bytes(spec, key[1]) / times[key].median / 1e9}
        for key, candidate in found.items()
      ]
      about = {"layer": spec.name, "place": place, "macs": spec.macs, "threads": threads}
      out += [about | row for row in with_ratios([*here, *absent])]
  return out


def _weight_bytes(spec: MatvecSpec, mix: str) -> float:
  """Bytes of a matrix in a mix, or in so many bits for peers."""
  if mix in MIXES:
    return float(np.sum(bits_of(MIXES[mix], spec.channels))) * spec.outputs / 8
  return spec.channels * spec.outputs * int(mix.removesuffix("-bit")) / 8


def _contenders(
  spec: MatvecSpec, threads: int, mixes: Sequence[str], peers: Sequence[Peer], footprint: float
) -> tuple[dict[tuple[str, str], list[Candidate]], list[Row]]:
  """All that run a matrix, in as many copies as fill `footprint`, and rows of peers that cannot."""
  found: dict[tuple[str, str], list[Candidate]] = {}
  absent: list[Row] = []
  x = np.random.default_rng(0).normal(size=(spec.batch, spec.channels))
  wanted = Wanted(Problem(matvec_graph(spec), np.maximum(x, 0).astype(np.float32), threads))
  count = lambda mix: max(1, int(np.ceil(footprint / _weight_bytes(spec, mix))))
  for peer in peers:
    mix = f"{peer.bits}-bit"
    try:
      best = ready(peer, [wanted], TOLERANCES)
      found[peer.name, mix] = _peer_copies(peer, wanted.problem, best, count(mix))
    except Missing as reason:
      absent.append(missing(peer.name, peer.bits, str(reason)))
  for mix in mixes:
    found[OURS, mix] = ours.dense_candidates(spec, MIXES[mix], count(mix))
  return found, absent
