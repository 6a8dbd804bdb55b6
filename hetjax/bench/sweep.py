"""Cost against size: time per multiply-accumulate of 3x3 convolutions, over size and outputs."""

from __future__ import annotations

from collections.abc import Sequence

from hetjax.bench import ours
from hetjax.bench.rows import OURS, Row, number, timed
from hetjax.bench.timing import bursts
from hetjax.bench.workloads import MIXES, ConvSpec
from hetjax.report import Column

COLUMNS = (
  Column("sweep", "sweep"),
  Column("layer", "layer"),
  Column("threads", "threads"),
  Column("mix", "weights"),
  Column("macs", "MACs", lambda v: f"{v:.2g}"),
  Column("microseconds", "us", number),
  Column("picoseconds_per_mac", "ps per MAC", number),
  Column("over_best_so_far", "over best so far", lambda v: f"{v:.2f}x"),
)


def _square(size: int, channels: int) -> ConvSpec:
  return ConvSpec(f"{size}x{size}x{channels}", size, channels, channels)


# From 10^5 to 10^10 multiply-accumulates, about fourfold a step.
SIZES = tuple(
  _square(size, channels)
  for size, channels in (
    (7, 16),
    (14, 16),
    (14, 32),
    (14, 64),
    (28, 64),
    (56, 64),
    (56, 128),
    (56, 256),
    (56, 512),
    (65, 512),
  )
)
OUTPUTS = tuple(
  ConvSpec(f"14x14x256 to {n}", 14, 256, n)
  for n in (
    *(1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 63, 64, 65, 96),
    *(127, 128, 129, 192, 255, 256, 257, 384, 511, 512),
  )
)
SWEEPS = {"size": SIZES, "outputs": OUTPUTS}


def measure(
  threads: int,
  *,
  seconds: float = 0.2,
  mixes: Sequence[str] = tuple(MIXES)[:1],
  sweeps: dict[str, Sequence[ConvSpec]] | None = None,
) -> list[Row]:
  """Rows of hetjax over both sweeps, each layer for `seconds`.

  "over_best_so_far" is a layer's time per multiply-accumulate over the least of the smaller layers:
  above 1, size has made things worse.

  Raises:
    ours.Wrong: a kernel of hetjax gives another result than the reference implementation.
  """
  rows: list[Row] = []
  for sweep, specs in (sweeps or SWEEPS).items():
    for mix in mixes:
      best = float("inf")
      for spec in specs:
        candidate = ours.conv_candidates(spec, MIXES[mix])[-1]
        timing = bursts({"": candidate.run}, seconds=seconds, least=3)[""]
        row = timed(OURS, mix, timing, candidate, spec.macs)
        each = 1e12 * timing.median / spec.macs
        row |= {"sweep": sweep, "layer": spec.name, "outputs": spec.outputs, "macs": spec.macs}
        row |= {"threads": threads, "picoseconds_per_mac": each}
        rows.append(row | ({"over_best_so_far": each / best} if best < float("inf") else {}))
        best = min(best, each)
  return rows
