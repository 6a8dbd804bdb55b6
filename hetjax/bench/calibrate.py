"""This machine as a target: costs and granules measured, and how well they predict layers.

The model is the one of `hetjax.hardware.cost`: a layer costs a fixed time, a time for each
multiply-accumulate at a level, and a time for each byte of packed weights. It is fitted to layers
of one level each, in relative error, and judged on layers of mixed levels.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hetjax import xla_cpu
from hetjax.bench import ours
from hetjax.bench.rows import Row, number
from hetjax.bench.timing import bursts
from hetjax.bench.workloads import CONVS, MIXES, ConvSpec, bits_of
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
# Costs are fitted to these: large ones for the cost of a multiply-accumulate, small ones for the
# fixed cost, and one position with many weights for the cost of a byte.
FITTED = (
  ConvSpec("3x3 28x28x128", 28, 128, 128),
  ConvSpec("3x3 14x14x256", 14, 256, 256),
  ConvSpec("3x3 7x7x512", 7, 512, 512),
  ConvSpec("1x1 14x14x512", 14, 512, 512, kernel=1),
  ConvSpec("3x3 4x4x64", 4, 64, 64),
  ConvSpec("3x3 1x1x2048", 1, 2048, 512),
)
JUDGED = tuple(spec for spec in CONVS if spec.groups == 1 and not spec.image)
GRANULES = (1, 2, 4, 8, 16, 32, 48, 64)
_BEYOND = (0, 1, 2, 4, 5, 8, 9, 16, 17, 24, 32, 33, 40, 48, 49, 56, 64)
COUNTS = tuple(64 + extra for extra in _BEYOND)


def layer_seconds(layers: Sequence[tuple[ConvSpec, Mapping[int, float]]], seconds: float):
  """Median times of layers in float64 seconds, results checked.

  All take turns, so that a while of other work on the machine is no one layer's loss.
  """
  runs = {i: ours.conv_candidates(*layer)[0].run for i, layer in enumerate(layers)}
  times = bursts(runs, seconds=seconds * len(layers), burst=0.003)
  return np.array([times[i].median for i in runs])


def features(spec: ConvSpec, mix: Mapping[int, float]) -> np.ndarray:
  """What a layer's cost is linear in: MACs at each of `LEVELS`, bytes of weights, one layer."""
  bits = bits_of(mix, spec.channels)
  weights = spec.kernel**2 * spec.outputs
  macs = [np.count_nonzero(bits == p) * weights * spec.out_size**2 for p in LEVELS]
  return np.array([*macs, float(bits.sum()) * weights / 8, 1.0])


def non_negative_fit(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  """Least squares of a x = b with x >= 0: columns whose factor comes out negative are dropped."""
  kept = np.arange(a.shape[1])
  size = np.linalg.norm(a, axis=0)
  while True:
    found = np.linalg.lstsq(a[:, kept] / size[kept], b, rcond=None)[0]
    if np.all(found >= 0):
      x = np.zeros(a.shape[1])
      x[kept] = found / size[kept]
      return x
    kept = kept[found >= 0]


def granule_of(counts: Sequence[int], seconds: Sequence[float]) -> int:
  """The step of a staircase: channels come without loss in multiples of it.

  Among `GRANULES` the one whose stairs `a + b ceil(count / granule)` fit the times best; a coarser
  one must explain at least a tenth of what a finer one leaves.
  """
  best, least = 1, np.inf
  for granule in GRANULES:
    stairs = np.ceil(np.asarray(counts) / granule)
    a = np.stack([stairs, np.ones_like(stairs)], axis=1)
    rest = np.sum((a @ np.linalg.lstsq(a, np.asarray(seconds), rcond=None)[0] - seconds) ** 2)
    if rest < 0.9 * least:
      best, least = granule, rest
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


def calibrate(
  name: str,
  *,
  threads: int = 1,
  seconds: float = 0.2,
  fitted: Sequence[ConvSpec] = FITTED,
  judged: Sequence[ConvSpec] = JUDGED,
  counts: Sequence[int] = COUNTS,
) -> tuple[Target, list[Row]]:
  """Measures this machine.

  Args:
    name: Of the target.
    threads: How many this process has been limited to.
    seconds: Per measured layer.
    fitted: Layers that costs are fitted to, at every level.
    judged: Layers of mixed levels to predict.
    counts: Input channels at which granules are looked for.

  Returns:
    The target, and a row with measured and predicted microseconds for every layer.

  Raises:
    ours.Wrong: a kernel of hetjax gives another result than the reference implementation.
    RuntimeError: the engine is not available: there is nothing to calibrate.
  """
  isa, compiler = xla_cpu.active_isa(), xla_cpu.compiler()
  samples = [(spec, f"{p}-bit", {p: 1.0}) for spec, p in itertools.product(fitted, LEVELS)]
  tests = [(spec, mix, MIXES[mix]) for spec in judged for mix in tuple(MIXES)[:1]]
  measured = layer_seconds([(spec, mix) for spec, _, mix in [*samples, *tests]], seconds)
  linear = np.stack([features(spec, mix) for spec, _, mix in [*samples, *tests]])
  n = len(samples)
  costs = non_negative_fit(linear[:n] / measured[:n, None], np.ones(n))
  ghz = frequency_ghz()
  cycles = costs * ghz * 1e9
  levels = []
  for i, p in enumerate(LEVELS):
    ragged = [(ConvSpec(f"{c} channels", 14, c, 128), {p: 1.0}) for c in counts]
    granule = granule_of(counts, layer_seconds(ragged, seconds))
    levels.append(Level(p, granule, max(float(cycles[i]), 1e-6)))
  rows = []
  for i, ((spec, mix, _), time, row) in enumerate(
    zip([*samples, *tests], measured, linear, strict=True)
  ):
    predicted = float(row @ costs)
    rows.append(
      {
        "layer": spec.name,
        "mix": mix,
        "measured": 1e6 * float(time),
        "predicted": 1e6 * predicted,
        "error": predicted / float(time) - 1,
        "fitted": i < n,
      }
    )
  about = provenance()
  machine = about["machine"]
  target = Target(
    name=name,
    description=(
      f"{threads} thread{'s' * (threads > 1)} of {machine['processor']}, instruction set "
      f"{isa}, batch 1. Costs fitted to convolutions of one level each."
    ),
    provenance=(
      f"measured by hetjax at commit {about['commit'][:12]}, {about['time'][:10]}, built with "
      f"{compiler}; mean absolute error {100 * mean_error(rows, False):.1f} % on mixed "
      f"layers that the fit did not see, {100 * mean_error(rows, True):.1f} % on the others"
    ),
    frequency_ghz=ghz,
    levels=tuple(levels),
    cycles_per_byte=float(cycles[-2]),
    cycles_per_op=float(cycles[-1]),
  )
  return target, rows


def mean_error(rows: Sequence[Row], fitted: bool) -> float:
  """Mean absolute relative error over rows that were, or were not, fitted."""
  return float(np.mean([abs(row["error"]) for row in rows if row["fitted"] == fitted]))
