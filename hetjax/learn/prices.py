"""What levels cost under a budget, in whole numbers: prices of level counts, layer by layer.

`learn.budget` measures bits between levels, approximately and differentiably; here levels are
counted exactly, so that an assignment within its limit is within it to the last bit or byte.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import numpy as np
from jaxtyping import Int

from hetjax.core.assignment import Assignment
from hetjax.core.layers import LayerSpec, LayerSpecs
from hetjax.core.precision import channel_weights
from hetjax.hardware import channel_costs, constant_cycles
from hetjax.learn.budget import Budget

Counts = Int[np.ndarray, "... levels"]
LayerPrice = Callable[[Counts], Int[np.ndarray, "..."]]

_FINENESS = 1 << 32  # parts of a latency's limit that are told apart


@dataclasses.dataclass(frozen=True, eq=False)
class Prices:
  """Prices of all layers that are not pinned, and what they may add up to.

  Attributes:
    specs: Layer name -> layer, those that are not pinned.
    layers: Layer name -> function from channels at each level, the highest level first, to their
      price.
    slopes: Layer name -> price of one bit of one channel, on average over the palette; what an
      error of a bit counts in an assignment.
    fixed: What no level changes: pinned layers, a file's overhead, a machine's fixed costs.
    limit: Largest allowed total, `fixed` included, or None.
    per_unit: Price of one unit of the budgeted quantity.
  """

  specs: LayerSpecs
  layers: Mapping[str, LayerPrice]
  slopes: Mapping[str, int]
  fixed: int
  limit: int | None
  per_unit: Fraction

  def total(self, assignment: Assignment) -> int:
    """Price of the whole network under an assignment."""
    total = self.fixed
    for name, price in self.layers.items():
      counts = assignment.counts(name)
      total += int(price(np.array([counts.get(p, 0) for p in self.specs[name].palette.descending])))
    return total

  def text(self, price: int) -> str:
    """A price in units of the budgeted quantity, rounded up to a millionth of it or to the unit."""
    exact = price / self.per_unit
    if exact.denominator == 1:
      return str(exact.numerator)
    digits = max(0, 6 - len(str(math.floor(exact))))
    return f"{math.ceil(exact * 10**digits) / 10**digits:.{digits}f}"

  def quantity(self, price: int) -> float:
    """A price in units of the budgeted quantity."""
    return float(price / self.per_unit)


def prices_of(budget: Budget | None, specs: LayerSpecs) -> Prices:
  """Prices under a budget; under none, those of packed weights' bits, without a limit.

  Args:
    budget: The budget, its file's overhead measured.
    specs: The model's quantized layers.

  Raises:
    ValueError: the overhead is not known, or the machine lacks a level.
  """
  free = {n: s for n, s in specs.items() if s.pinned_bits is None}
  if budget is None:
    return _linear(specs, free, "params", None)
  if budget.quantity == "file_bytes":
    return _bytes(specs, free, budget)
  if budget.quantity == "latency_us":
    return _latency(specs, free, budget)
  return _linear(specs, free, budget.quantity.removeprefix("mean_bits_"), budget.limit)


def _dot(counts: Counts, prices: Int[np.ndarray, " levels"]) -> Any:
  return np.asarray(counts, np.int64) @ prices


def _linear(specs: LayerSpecs, free: LayerSpecs, by: str, mean: float | None) -> Prices:
  """A channel costs its level times its weight in the mean."""
  weights = {n: int(w) for n, w in channel_weights(specs, by).items()}
  levels = {n: np.array(s.palette.descending, np.int64) for n, s in free.items()}
  whole = sum(weights[n] * s.in_channels for n, s in specs.items())
  pinned = {n: s for n, s in specs.items() if n not in free}
  return Prices(
    specs=free,
    layers={n: functools.partial(_dot, prices=levels[n] * weights[n]) for n in free},
    slopes={n: weights[n] for n in free},
    fixed=sum(weights[n] * s.in_channels * s.pinned_bits for n, s in pinned.items()),
    # The decimal that was written, not the float below it: 1.7 of 1000 allows 1700, not 1699.
    limit=None if mean is None else math.floor(Fraction(repr(float(mean))) * whole),
    per_unit=Fraction(max(whole, 1)),
  )


def _bytes(specs: LayerSpecs, free: LayerSpecs, budget: Budget) -> Prices:
  """Bytes of the packed rows of every level, each row filled up to its last byte."""
  pinned = {n: s for n, s in specs.items() if n not in free}
  return Prices(
    specs=free,
    layers={n: functools.partial(file_bytes, spec=s) for n, s in free.items()},
    slopes={n: s.weights_per_channel for n, s in free.items()},
    fixed=budget.overhead + sum(int(file_bytes([s.in_channels], s)) for s in pinned.values()),
    limit=math.floor(budget.limit),
    per_unit=Fraction(1),
  )


def file_bytes(counts: Counts, spec: LayerSpec) -> Int[np.ndarray, ...]:
  """Bytes of a layer's packed weights, see `hetjax.pack.weights`.

  Exact for layers of one group, for depthwise ones, and where all channels have one level. For
  others a little more than it can be: how a level's channels spread over the groups decides how
  many bytes have bits to fill up.

  Args:
    counts: Channels at each level of the palette, the highest first.
    spec: The layer.
  """
  counts = np.asarray(counts, np.int64)
  levels = np.array(spec.palette.descending, np.int64)
  rows = spec.out_channels // spec.groups
  if spec.groups == 1:
    return rows * np.sum(-(-spec.taps * levels * counts // 8), axis=-1)
  if spec.kernel_shape[2] == 1:
    return rows * np.sum(-(-spec.taps * levels // 8) * counts, axis=-1)
  alone = spec.groups * -(-spec.taps * levels * spec.kernel_shape[2] // 8)
  # A row's bits are a multiple of this many; what a group lacks to whole bytes is at most the rest.
  lack = np.array([8 - math.gcd(spec.taps * int(p), 8) for p in levels])
  spread = (spec.taps * levels * counts + np.minimum(counts, spec.groups) * lack) // 8
  return rows * np.sum(np.where(counts == spec.in_channels, alone, spread), axis=-1)


def _latency(specs: LayerSpecs, free: LayerSpecs, budget: Budget) -> Prices:
  """Cycles of the machine, every price rounded up to a small part of the limit."""
  machine = budget.machine
  # From cycles to parts; the machine's costs are floats, and floats are fractions.
  scale = _FINENESS / (Fraction(budget.limit) * Fraction(machine.frequency_ghz) * 1000)
  parts = lambda cycles: math.ceil(Fraction(cycles) * scale)
  costs = {n: [parts(c) for c in channel_costs(s, machine)] for n, s in specs.items()}
  pinned = {n: s for n, s in specs.items() if n not in free}
  slope = lambda costs, levels: -(-(costs[-1] - costs[0]) // max(levels.pmax - levels.pmin, 1))
  return Prices(
    specs=free,
    layers={n: functools.partial(_dot, prices=np.array(costs[n][::-1], np.int64)) for n in free},
    slopes={n: max(1, slope(costs[n], s.palette)) for n, s in free.items()},
    fixed=sum(parts(constant_cycles(s, machine)) for s in specs.values())
    + sum(s.in_channels * costs[n][0] for n, s in pinned.items()),
    limit=_FINENESS,
    per_unit=_FINENESS / Fraction(budget.limit),
  )
