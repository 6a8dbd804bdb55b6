"""Engines that a reader will look for and that cannot be had as Python packages."""

from __future__ import annotations

import dataclasses

from hetjax.bench.peers.base import Candidate, Missing, Problem


@dataclasses.dataclass(frozen=True)
class Absent:
  """A peer that is always missing, for a reason that is known beforehand.

  Attributes:
    name: As tables print it.
    bits: Of its weights.
    reason: Why it cannot take part.
  """

  name: str
  bits: int
  reason: str

  def version(self) -> str:
    raise Missing(self.reason)

  def candidates(self, problem: Problem) -> list[Candidate]:
    raise Missing(self.reason)
