"""Learned bits to levels of the palette: exact, monotone, within a budget and granules.

`assign` minimises the sum over channels of `w_l * (level - bits)^2`, w_l being what a channel of
its layer counts (`channel_weights`), over the assignments that docs/assignment.md allows. Learned
bits enter as multiples of a small power of two (`fraction_bits`), everything after is integer
arithmetic, so the optimum is exact and the same on every machine.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from hetjax.core.assignment import Assignment
from hetjax.core.layers import LayerSpec, LayerSpecs
from hetjax.core.palette import Palette
from hetjax.core.precision import channel_weights
from hetjax.learn.knapsack import Options, solve

_MAX_FRACTION_BITS, _MIN_FRACTION_BITS = 16, 4
_NO_COST = np.iinfo(np.int64).max


@dataclasses.dataclass(frozen=True, eq=False)
class LayerOptions:
  """The best level counts of a layer for each sum of its channels' levels.

  Attributes:
    sums: int64[J], increasing sums of levels over the channels.
    errors: int64[J], least sum of squared differences, in units of `4^-fraction_bits` bits^2.
    counts: int64[J, L], channels at each level, the highest level first.
  """

  sums: np.ndarray
  errors: np.ndarray
  counts: np.ndarray


def layer_options(
  scaled: np.ndarray,
  palette: Palette,
  granules: Mapping[int, int],
  fraction_bits: int,
  whole: bool = False,
) -> LayerOptions:
  """All that a layer can contribute to an optimum.

  Args:
    scaled: int64[C], learned bits times `2^fraction_bits`, in descending order.
    palette: Levels of the layer.
    granules: Level -> granule; a level left out has granule 1.
    fraction_bits: See `scaled`.
    whole: Only options that give all channels one level.

  Returns:
    For each reachable sum of levels the counts of least error (of equal ones that with the fewest
    channels at the highest level), the highest levels going to the first channels, at most one
    count not a multiple of its granule.
  """
  channels, levels = len(scaled), palette.descending
  prefix = {
    p: np.concatenate([[0], np.cumsum(((p << fraction_bits) - scaled) ** 2)]) for p in levels
  }
  if len(levels) == 1:
    only = prefix[levels[0]][-1:]
    return LayerOptions(np.array([levels[0] * channels]), only, np.array([[channels]]))
  # Two levels are three whose first holds no channel.
  high, mid, low = (levels[0], *levels)[-3:]
  grain = [granules.get(p, 1) for p in (high, mid, low)]
  size = channels * (high - low) + 1
  best = np.full(size, _NO_COST)
  highs, mids = np.zeros(size, np.int64), np.zeros(size, np.int64)
  for n_high in range(channels + 1 if len(levels) == 3 else 1):
    n_mid = np.arange(channels - n_high + 1)
    n_low = channels - n_high - n_mid
    split = n_high + n_mid
    error = prefix[high][n_high] + prefix[mid][split] - prefix[mid][n_high]
    error += prefix[low][-1] - prefix[low][split]
    ragged = (n_mid % grain[1] != 0).astype(np.int64) + (n_low % grain[2] != 0)
    # Sums rise with n_mid, so a sum occurs once in a row and plain indexing suffices.
    row = n_high * (high - low) + n_mid * (mid - low)
    better = (ragged + (n_high % grain[0] != 0) <= 1) & (error < best[row])
    if whole:
      better &= np.maximum(np.maximum(n_mid, n_low), n_high) == channels
    best[row[better]] = error[better]
    highs[row[better]], mids[row[better]] = n_high, n_mid[better]
  sums = np.flatnonzero(best < _NO_COST)
  counts = np.stack([highs[sums], mids[sums], channels - highs[sums] - mids[sums]], axis=1)
  return LayerOptions(sums + channels * low, best[sums], counts[:, -len(levels) :])


def _checked_bits(bits: Mapping[str, Any], free: Mapping[str, LayerSpec]) -> dict[str, np.ndarray]:
  checked = {}
  for name, spec in free.items():
    if name not in bits:
      raise ValueError(f"bits must hold layer {name!r}, got {sorted(bits)}")
    value = np.asarray(bits[name], np.float64)
    if value.shape != (spec.in_channels,):
      raise ValueError(f"bits of {name!r} must have shape ({spec.in_channels},), got {value.shape}")
    if not np.isfinite(value).all():
      raise ValueError(f"bits of {name!r} must be finite, got {value[~np.isfinite(value)][0]}")
    checked[name] = value
  return checked


def _fraction_bits(
  bits: Mapping[str, np.ndarray], free: Mapping[str, LayerSpec], weights: Mapping[str, int]
) -> int:
  """The finest power of two (16 at most) at which all costs together stay below 2^60."""
  most = 1.0
  for name, value in bits.items():
    palette = free[name].palette
    farthest = np.maximum(abs(palette.pmax - value), abs(value - palette.pmin)) + 1
    most += weights[name] * float(np.sum(farthest**2))
  fraction_bits = min(_MAX_FRACTION_BITS, math.floor((59 - math.log2(most)) / 2))
  if fraction_bits < _MIN_FRACTION_BITS:
    raise ValueError(f"bits are too large for an exact assignment: total error up to {most:.3g}")
  return fraction_bits


def assign(
  bits: Mapping[str, Any],
  specs: LayerSpecs,
  *,
  mean_bits: float | None,
  by: str = "params",
  granules: Mapping[int, int] | None = None,
  whole_layers: bool = False,
) -> Assignment:
  """The cheapest assignment within the budget; see docs/assignment.md for the rules.

  Args:
    bits: Layer name -> learned bits [in_channels]; pinned layers may be left out.
    specs: The model's quantized layers.
    mean_bits: Largest mean bits of the network, weighted by `by` and pinned layers included; None
      for no budget (each layer by itself as near to its learned bits as the granules allow).
    by: Weight of a channel in the budget and in the cost: "params", "macs" or "channels".
    granules: Level -> channels that a level's count must be a multiple of, except for one level per
      layer; a level left out has granule 1.
    whole_layers: All channels of a layer get one level.

  Returns:
    Levels of all layers. Within a layer a channel with more learned bits never has fewer than one
    with less; of channels with equal bits the earlier one has at least as many.

  Raises:
    ValueError: bits are missing, misshapen or not finite, a granule is not positive, or the budget
      is below the least mean that can be reached, which the message gives.
  """
  granules = dict(granules or {})
  for level, value in granules.items():
    if value < 1:
      raise ValueError(f"granules must be at least 1, got {value} for level {level}")
  free = {n: s for n, s in specs.items() if s.pinned_bits is None}
  learned = _checked_bits(bits, free)
  counts = {n: int(w) for n, w in channel_weights(specs, by).items()}
  pinned = sum(counts[n] * s.in_channels * s.pinned_bits for n, s in specs.items() if n not in free)
  divisor = math.gcd(*(counts[n] for n in free)) or 1
  weights = {n: counts[n] // divisor for n in free}
  fraction_bits = _fraction_bits(learned, free, weights)
  order = {n: np.argsort(-b, kind="stable") for n, b in learned.items()}
  options = {}
  for name, spec in free.items():
    scaled = np.floor(np.ldexp(learned[name][order[name]], fraction_bits) + 0.5).astype(np.int64)
    options[name] = layer_options(scaled, spec.palette, granules, fraction_bits, whole_layers)
  if mean_bits is None:
    chosen = [int(np.argmin(options[n].errors)) for n in free]
  else:
    least = pinned + sum(counts[n] * int(options[n].sums[0]) for n in free)
    whole = sum(counts[n] * s.in_channels for n, s in specs.items())
    allowed = _allowed_bits(mean_bits, whole, least, by)
    chosen = solve(
      [Options(options[n].sums * weights[n], options[n].errors * weights[n]) for n in free],
      (allowed - pinned) // divisor,
    )
  result = {}
  for (name, spec), j in zip(free.items(), chosen, strict=True):
    levels = np.repeat(spec.palette.descending, options[name].counts[j])
    result[name] = np.empty(spec.in_channels, np.int8)
    result[name][order[name]] = levels
  return Assignment.create(specs, result)


def _allowed_bits(mean_bits: float, whole: int, least: int, by: str) -> int:
  """Total bits of the network that the budget allows, checked against the `least` reachable."""
  if not math.isfinite(mean_bits):
    raise ValueError(f"mean_bits must be finite or None, got {mean_bits}")
  # The decimal that was written, not the float below it: 1.7 of 1000 allows 1700, not 1699.
  allowed = math.floor(Fraction(repr(float(mean_bits))) * whole)
  if least > allowed:
    raise ValueError(
      f"mean_bits must be at least {least / max(whole, 1):.6g}, the least mean by {by} that the "
      f"palettes, pinned layers and granules can reach, got {mean_bits}"
    )
  return allowed


def assignment_report(
  bits: Mapping[str, Any], assignment: Assignment, specs: LayerSpecs
) -> dict[str, Any]:
  """What an assignment did, as JSON-like data.

  Args:
    bits: Learned bits; pinned layers may be left out.
    assignment: Levels of all layers.
    specs: The model's quantized layers.

  Returns:
    "layers": layer name -> "channels", "counts" (level as text -> channels, highest first),
    "mean_bits", "learned_mean_bits", "mean_change" (level minus learned bits, signed) and
    "rms_change"; "mean_bits_params", "mean_bits_macs": means of the whole network;
    "learned_mean_bits_params", "learned_mean_bits_macs": the same before assignment;
    "rms_change": over all channels, weighted by parameters. Pinned layers changed nothing.
  """
  layers, changes = {}, {}
  means = {key: dict.fromkeys(specs, 0.0) for key in ("assigned", "learned")}
  for name, spec in specs.items():
    levels = np.asarray(assignment.bits[name], np.float64)
    pinned = spec.pinned_bits is not None
    learned = levels if pinned else np.asarray(bits[name], np.float64)
    change = levels - learned
    changes[name] = float(np.mean(change**2))
    means["assigned"][name], means["learned"][name] = float(levels.mean()), float(learned.mean())
    layers[name] = {
      "channels": spec.in_channels,
      "counts": {str(p): c for p, c in assignment.counts(name).items()},
      "mean_bits": means["assigned"][name],
      "learned_mean_bits": means["learned"][name],
      "mean_change": float(change.mean()),
      "rms_change": math.sqrt(changes[name]),
    }

  def network_mean(values: Mapping[str, float], by: str) -> float:
    weights = {n: w * specs[n].in_channels for n, w in channel_weights(specs, by).items()}
    return sum(weights[n] * values[n] for n in specs) / max(sum(weights.values()), 1.0)

  return {
    "layers": layers,
    "mean_bits_params": network_mean(means["assigned"], "params"),
    "mean_bits_macs": network_mean(means["assigned"], "macs"),
    "learned_mean_bits_params": network_mean(means["learned"], "params"),
    "learned_mean_bits_macs": network_mean(means["learned"], "macs"),
    "rms_change": math.sqrt(network_mean(changes, "params")),
  }
