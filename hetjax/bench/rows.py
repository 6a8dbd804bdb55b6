"""Rows of benchmark tables: one engine on one problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hetjax.bench.peers.base import Candidate
from hetjax.bench.timing import Timing
from hetjax.report import Column

Row = dict[str, Any]
OURS = "hetjax"


def timed(engine: str, mix: str, timing: Timing, candidate: Candidate, macs: int) -> Row:
  """A measured row; times are those of one layer."""
  layers = candidate.layers
  return {
    "engine": engine,
    "mix": mix,
    "microseconds": timing.microseconds / layers,
    "low": 1e6 * timing.low / layers,
    "high": 1e6 * timing.high / layers,
    "calls": timing.repeats,
    "gmacs": macs * layers / timing.median / 1e9,
    "setting": candidate.setting,
    "layers_a_call": layers,
  }


def missing(engine: str, bits: int, reason: str) -> Row:
  """A row that says why an engine is not there."""
  return {"engine": engine, "mix": f"{bits}-bit", "missing": reason}


# Peers whose algorithm nobody gets without asking for it.
NOT_BY_DEFAULT = ("oneDNN Winograd",)


def with_ratios(rows: Sequence[Mapping[str, Any]]) -> list[Row]:
  """Adds to hetjax's rows how many times faster they are than the fastest peers.

  "over_float32", "over_int8" and "over_int4" are ratios of medians against the fastest peer whose
  weights have that type, named in "float32_peer" and so on; all rows are of one problem. Peers
  of `NOT_BY_DEFAULT` stand beside them and do not count.
  """
  others = [r for r in rows if r["engine"] not in (OURS, *NOT_BY_DEFAULT)]
  fastest = {}
  for kind, label in (("float32", "32-bit"), ("int8", "8-bit"), ("int4", "4-bit")):
    peers = [r for r in others if r["mix"] == label and "gmacs" in r]
    if peers:
      fastest[kind] = min(peers, key=lambda r: r["microseconds"])
  out = []
  for row in rows:
    extra = {}
    if row["engine"] == OURS:
      for kind, peer in fastest.items():
        extra[f"over_{kind}"] = peer["microseconds"] / row["microseconds"]
        extra[f"{kind}_peer"] = peer["engine"]
    out.append(dict(row) | extra)
  return out


def number(value: float) -> str:
  """Three digits or all that stand before the point."""
  return f"{value:.3g}" if value < 100 else f"{value:.0f}"


ENGINE_COLUMNS = (
  Column("threads", "threads"),
  Column("engine", "engine"),
  Column("mix", "weights"),
  Column("microseconds", "us", number),
  Column("low", "25 %", number),
  Column("high", "75 %", number),
  Column("gmacs", "GMAC/s", number),
)
RATIO_COLUMNS = (
  Column("over_float32", "over float32", lambda v: f"{v:.2f}x"),
  Column("over_int8", "over int8", lambda v: f"{v:.2f}x"),
)
MISSING_COLUMN = Column("missing", "missing")
