"""Matrix times a few vectors, weights in cache or from memory."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

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
from hetjax.bench.workloads import MATVECS, MIXES, MatvecSpec, bits_of, matvec_graph, matvec_kernel
from hetjax.report import Column

PLACES = ("cache", "memory")
Copies = dict[tuple[str, str], list[Candidate]]  # by engine and mix
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
# All copies together, times the last-level cache. Beyond it, so that every copy comes from memory,
# by a factor that leaves caches which do not forget in order little to keep.
FOOTPRINT_OF_CACHES = 8
LEAST_FOOTPRINT = 64e6  # bytes


def in_turn(candidates: Sequence[Candidate]) -> Candidate:
  """One candidate that runs the next of several at every call."""
  turns = itertools.cycle(candidates)
  first = candidates[0]
  return Candidate(first.setting, lambda: next(turns).run(), first.result, first.layers)


def _copies(best: Candidate, count: int) -> list[Candidate]:
  """`best` and as many more, each with weights of its own."""
  if count > 1 and best.again is None:
    raise Missing("it cannot have several copies of its weights")
  more = [best.again() for _ in range(count - 1)]
  for candidate in more:
    candidate.run()
  return [best, *more]


def _default_footprint() -> float:
  """Bytes that no cache holds, from what the system says of the first processor's caches."""
  sizes = [
    int(path.read_text().strip().removesuffix("K")) << 10
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
  ]
  return max([LEAST_FOOTPRINT, *(FOOTPRINT_OF_CACHES * size for size in sizes)])


def _room() -> float:
  """Bytes of memory that copies may take, half of what is free."""
  return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2


def measure(
  threads: int,
  *,
  seconds: float = 2.0,
  specs: Sequence[MatvecSpec] = MATVECS,
  mixes: Sequence[str] = tuple(MIXES),
  peers: Sequence[Peer] = PEERS,
  places: Sequence[str] = PLACES,
  footprint: float | None = None,
) -> list[Row]:
  """Rows of all matrices; see `layers.measure`.

  Args:
    threads: How many every engine uses.
    seconds: Per matrix and place, all engines together.
    specs: The matrices.
    mixes: Keys of `workloads.MIXES`.
    peers: Engines to compare with.
    places: "cache" repeats one copy of the weights, which stays in cache if it fits; "memory" goes
      through copies of `footprint` bytes in all, so that each comes from memory. Where there is no
      room for the copies of all engines a row says so instead.
    footprint: Bytes; None: several times the processor's caches.

  Raises:
    ours.Wrong: a kernel of hetjax gives another result than the reference implementation.
  """
  bytes_of_copies = (footprint or _default_footprint()) if "memory" in places else 0
  out: list[Row] = []
  wanted, room = bytes_of_copies * (len(mixes) + len(peers)), _room()
  if wanted > room:
    reason = f"copies that no cache holds take {wanted / 1e9:.0f} GB, there is room for"
    out.append(missing("weights from memory", 32, f"{reason} {room / 1e9:.0f} GB"))
    places, bytes_of_copies = [place for place in places if place != "memory"], 0
  matrix = lambda spec: (spec.channels, spec.outputs)
  for _, group in itertools.groupby(specs, key=matrix):
    same = list(group)
    first = same[0]
    count = lambda mix, first=first: math.ceil(bytes_of_copies / _weight_bytes(first, mix)) or 1
    mine = {mix: ours.dense_candidates(same, MIXES[mix], count(mix)) for mix in mixes}
    kernel = matvec_kernel(first)
    for i, spec in enumerate(same):
      copies, absent = _peers(spec, kernel, threads, peers, count)
      copies |= {(OURS, mix): candidates[i] for mix, candidates in mine.items()}
      out += _rows(spec, threads, places, seconds, copies, absent)
      del copies  # gigabytes, which the next batch would have beside its own
  return out


def _rows(
  spec: MatvecSpec,
  threads: int,
  places: Sequence[str],
  seconds: float,
  copies: Copies,
  absent: Sequence[Row],
) -> list[Row]:
  """All engines timed in turn, once for each place."""
  out: list[Row] = []
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


def _peers(
  spec: MatvecSpec,
  kernel: Float[np.ndarray, "c n"],
  threads: int,
  peers: Sequence[Peer],
  count: Callable[[str], int],
) -> tuple[Copies, list[Row]]:
  """Copies of peers' candidates, `count` of their bits many, and rows of peers that cannot."""
  found: Copies = {}
  absent: list[Row] = []
  x = np.random.default_rng(0).normal(size=(spec.batch, spec.channels))
  x = np.maximum(x, 0).astype(np.float32)
  wanted = Wanted(Problem(matvec_graph(spec, kernel), x, threads))
  for peer in peers:
    mix = f"{peer.bits}-bit"
    try:
      found[peer.name, mix] = _copies(ready(peer, [wanted], TOLERANCES), count(mix))
    except Missing as reason:
      absent.append(missing(peer.name, peer.bits, str(reason)))
  return found, absent
