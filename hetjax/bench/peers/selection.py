"""Peers made ready: each in its best setting, its result checked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hetjax.bench import execute, quantization
from hetjax.bench.peers.base import Candidate, Missing, Peer, Problem
from hetjax.bench.timing import bursts

FLOAT_TOLERANCE = 1e-3


class Wanted:
  """What peers should compute for a problem; computed when first asked for and kept."""

  def __init__(self, problem: Problem):
    self.problem = problem
    self._found: dict[int, np.ndarray] = {}

  def output(self, bits: int) -> np.ndarray:
    """The result for weights of `bits` bits.

    In float32 for 32 bits, with int8 tensors too for 8, with float32 tensors for 4.
    """
    if bits not in self._found:
      graph, x = self.problem.graph, self.problem.x
      if bits == 32:
        y = execute.run(graph, x)
      elif bits == 8:
        ranges = self.problem.ranges
        y = quantization.run_quantized(graph, x, ranges, self.problem.quantized_ends)
      else:
        y = quantization.run_rounded(graph, x, bits)
      self._found[bits] = y
    return self._found[bits]

  def check(self, candidate: Candidate, bits: int, tolerance: float) -> None:
    """Runs a candidate and compares its result.

    Raises:
      Missing: it is off by more than `tolerance` of the largest value: its time means nothing.
    """
    candidate.run()
    got, want = candidate.result(), candidate.want
    want = self.output(bits) if want is None else want
    if got.shape != want.shape:
      raise Missing(f"its result has shape {got.shape} instead of {want.shape}")
    error = float(np.max(np.abs(got - want))) / max(float(np.max(np.abs(want))), 1e-30)
    if not error <= tolerance:
      raise Missing(f"its result is off by {100 * error:.3g} % of the largest value")


def fastest(candidates: Sequence[Candidate]) -> Candidate:
  """The candidate with the least time per layer, by a short trial."""
  if len(candidates) == 1:
    return candidates[0]
  times = bursts({str(i): c.run for i, c in enumerate(candidates)}, seconds=0.0, least=3)
  best = min(range(len(candidates)), key=lambda i: times[str(i)].median / candidates[i].layers)
  return candidates[best]


def ready(peer: Peer, wanted: Sequence[Wanted], tolerances: dict[int, float]) -> Candidate:
  """A peer's fastest candidate over some problems, all of them checked.

  Args:
    peer: The peer.
    wanted: The problems; times are compared per layer.
    tolerances: Of results, by the peer's bits, relative to the largest value.

  Raises:
    Missing: the peer cannot run here, cannot run the problem, or gives wrong results.
  """
  peer.version()
  usable = []
  for one in wanted:
    for candidate in peer.candidates(one.problem):
      one.check(candidate, peer.bits, tolerances[peer.bits])
      usable.append(candidate)
  if not usable:
    raise Missing("it has no setting for this problem")
  return fastest(usable)
