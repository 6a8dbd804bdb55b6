"""This machine as a target: costs and granules measured, and how well they predict layers.

The model is the one of `hetjax.hardware.cost`. Its costs are fitted to some layers and judged on
others, of other shapes and with another mix of levels.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from hetjax import xla_cpu
from hetjax.bench import ours
from hetjax.bench.calibration_layers import CHECKED, COUNTS, FITTED, FITTED_MIXES, JUDGED
from hetjax.bench.fitting import granule_of, relative_error, relative_fit
from hetjax.bench.repeats import Mix, layer_seconds
from hetjax.bench.rows import Row, number
from hetjax.bench.workloads import MIXES, ConvSpec, bits_of
from hetjax.core import LayerSpec, Palette
from hetjax.hardware.cost import (
  channel_costs,
  constant_counts,
  constant_cycles,
  padded_macs_per_channel,
)
from hetjax.hardware.target import Level, Target
from hetjax.report import Column, provenance

COLUMNS = (
  Column("layer", "layer"),
  Column("mix", "weights"),
  Column("measured", "measured us", number),
  Column("predicted", "predicted us", number),
  Column("error", "error", lambda v: f"{100 * v:+.1f} %"),
)
LEVELS = (1, 2, 4, 8)
OUTPUT_GRANULES = (1, 8, 16, 32, 64)
JUDGED_MIX = "60/30/10"
_CONSTANTS = ("cycles_per_output", "cycles_per_position", "cycles_per_op")
_LEAST_CYCLES = 1e-6  # of a multiply-accumulate, whose cost must be positive

Sample = tuple[ConvSpec, Mix]


def layer_spec(spec: ConvSpec, mix: Mix) -> LayerSpec:
  """A benchmarked layer as the cost model knows layers."""
  palette = Palette(tuple(sorted(mix)))
  positions = spec.out_size**2
  return LayerSpec(spec.name, spec.kernel_shape, spec.groups, palette, spec.image, None, positions)


def features(spec: ConvSpec, mix: Mix, output_granule: int) -> Float[np.ndarray, " costs"]:
  """How often a layer pays each cost: products at each of `LEVELS`, packed bytes, `_CONSTANTS`."""
  layer, bits = layer_spec(spec, mix), bits_of(mix, spec.channels)
  each = padded_macs_per_channel(layer, output_granule)
  macs = [np.count_nonzero(bits == p) * each for p in LEVELS]
  packed_bytes = float(bits.sum()) * layer.weights_per_channel / 8
  constants = constant_counts(layer, output_granule)
  return np.array([*macs, packed_bytes, *(constants[cost] for cost in _CONSTANTS)])


def fit(
  samples: Sequence[Sample], seconds: Float[np.ndarray, " n"]
) -> tuple[int, Float[np.ndarray, " costs"]]:
  """The output granule and the costs, in seconds, that predict samples best.

  A coarser granule must take at least a twentieth off the mean error of a finer one.
  """
  best, least = (1, np.zeros(0)), np.inf
  for granule in OUTPUT_GRANULES:
    counts = np.stack([features(*sample, granule) for sample in samples])
    costs = relative_fit(counts, seconds)
    error = relative_error(counts, costs, seconds)
    if error < 0.95 * least:
      best, least = (granule, costs), error
  return best


def frequency_ghz() -> float:
  """The processor's frequency as the system tells it, or 1: then cycles are nanoseconds."""
  try:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
      if line.startswith("cpu MHz"):
        return float(line.partition(":")[2]) / 1e3
  except (OSError, ValueError):
    pass
  return 1.0


def input_granules(counts: Sequence[int], seconds: float) -> dict[int, int]:
  """Level -> in what multiples its input channels come without loss; `seconds` per layer."""
  samples = [
    (ConvSpec(f"{c} channels", 14, c, 128), {p: 1.0}) for p, c in itertools.product(LEVELS, counts)
  ]
  times = layer_seconds(samples, seconds).reshape(len(LEVELS), len(counts))
  return {p: granule_of(counts, row) for p, row in zip(LEVELS, times, strict=True)}


def calibrate(
  name: str,
  *,
  threads: int = 1,
  seconds: float = 0.15,
  fitted: Sequence[ConvSpec] = FITTED,
  judged: Sequence[ConvSpec] = JUDGED,
  counts: Sequence[int] = COUNTS,
) -> tuple[Target, list[Row]]:
  """Measures this machine.

  Args:
    name: Of the target.
    threads: How many this process has been limited to.
    seconds: Per measured layer.
    fitted: Layers that costs are fitted to, with every mix of `FITTED_MIXES`.
    judged: Layers to predict, with the mix `JUDGED_MIX`.
    counts: Input channels at which granules are looked for.

  Returns:
    The target, and a row with measured and predicted microseconds for every layer.

  Raises:
    ours.Wrong: a kernel of hetjax gives another result than the reference implementation.
    RuntimeError: the engine is not available: there is nothing to calibrate.
  """
  isa = xla_cpu.active_isa()
  for sample in CHECKED:
    ours.conv_candidates(*sample)
  seen = [(spec, mix, shares) for spec in fitted for mix, shares in FITTED_MIXES.items()]
  unseen = [(spec, JUDGED_MIX, MIXES[JUDGED_MIX]) for spec in judged]
  times = layer_seconds([(spec, shares) for spec, _, shares in [*seen, *unseen]], seconds)
  samples = [(spec, shares) for spec, _, shares in seen]
  output_granule, costs = fit(samples, times[: len(seen)])
  granules = input_granules(counts, seconds)
  target = target_of(name, frequency_ghz(), granules, output_granule, costs)
  rows = [
    row_of(*layer, float(time), target) | {"fitted": i < len(seen)}
    for i, (layer, time) in enumerate(zip([*seen, *unseen], times, strict=True))
  ]
  return _described(target, rows, threads, isa), rows


def target_of(
  name: str,
  ghz: float,
  granules: Mapping[int, int],
  output_granule: int,
  costs: Float[np.ndarray, " costs"],
) -> Target:
  """A target from seconds of the costs that `features` counts, its texts left open."""
  cycles = [float(f"{cost:.5g}") for cost in costs * ghz * 1e9]
  macs, others = cycles[: len(LEVELS)], cycles[len(LEVELS) :]
  return Target(
    name=name,
    description="",
    provenance="",
    frequency_ghz=ghz,
    levels=tuple(
      Level(p, granules[p], max(mac, _LEAST_CYCLES)) for p, mac in zip(LEVELS, macs, strict=True)
    ),
    output_granule=output_granule,
    **dict(zip(("cycles_per_byte", *_CONSTANTS), others, strict=True)),
  )


def row_of(spec: ConvSpec, mix: str, shares: Mix, seconds: float, target: Target) -> Row:
  """A layer's measured time beside the one that the target predicts."""
  layer = layer_spec(spec, shares)
  costs = dict(zip(layer.palette.levels, channel_costs(layer, target), strict=True))
  channels = sum(costs[p] for p in bits_of(shares, spec.channels).tolist())
  predicted = target.microseconds(constant_cycles(layer, target) + channels)
  row = {"layer": spec.name, "mix": mix, "measured": 1e6 * seconds}
  return row | {"predicted": predicted, "error": predicted / row["measured"] - 1}


def mean_error(rows: Sequence[Row], fitted: bool) -> float:
  """Mean absolute relative error over rows that were, or were not, fitted."""
  return float(np.mean([abs(row["error"]) for row in rows if row["fitted"] == fitted]))


def _described(target: Target, rows: Sequence[Row], threads: int, isa: str) -> Target:
  about = provenance()
  return dataclasses.replace(
    target,
    description=(
      f"{threads} thread{'s' * (threads > 1)} of {about['machine']['processor']}, instruction set "
      f"{isa}, batch 1. Costs fitted to convolutions inside a compiled program, "
      "without the call from Python; outputs are packed at three levels."
    ),
    provenance=(
      f"measured by hetjax at commit {about['commit'][:12]}, {about['time'][:10]}, built with "
      f"{xla_cpu.compiler()}; mean absolute error {100 * mean_error(rows, False):.1f} % on "
      f"{sum(not row['fitted'] for row in rows)} mixed layers that the fit did not see, "
      f"{100 * mean_error(rows, True):.1f} % on those that it saw"
    ),
  )
