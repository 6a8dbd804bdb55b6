"""Learned bits to levels of the palette: exact, monotone, within a budget and granules.

`assign` minimises the sum over channels of `w_l * 4^(bits - level)`, w_l being what a bit of a
channel of its layer costs (`Prices.slopes`), over the assignments that docs/assignment.md allows.
Every term enters as a multiple of a small power of two (`fraction_bits`), everything after is
integer arithmetic, so the optimum is exact.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from hetjax.core.assignment import Assignment
from hetjax.core.layers import LayerSpec, LayerSpecs
from hetjax.core.palette import Palette
from hetjax.core.precision import channel_weights
from hetjax.learn.budget import Budget
from hetjax.learn.knapsack import Options, solve, undominated
from hetjax.learn.prices import LayerPrice, Prices, prices_of

_MAX_FRACTION_BITS, _MIN_FRACTION_BITS = 16, 4
_BEYOND = 4.0  # bits beyond a palette's ends that still count
_LN4 = math.log(4.0)


@dataclasses.dataclass(frozen=True, eq=False)
class LayerOptions:
  """Level counts of a layer that no others beat in both price and error.

  Attributes:
    prices: int64[J], increasing.
    errors: int64[J], decreasing sums of channels' errors, in units of `2^-fraction_bits`.
    counts: int64[J, L], channels at each level, the highest level first.
  """

  prices: np.ndarray
  errors: np.ndarray
  counts: np.ndarray


def channel_errors(
  bits: Float[np.ndarray, " c"], palette: Palette, priced: bool
) -> Float[np.ndarray, "l c"]:
  """What every level would cost a channel of these learned bits; see docs/assignment.md.

  Args:
    bits: Learned bits.
    palette: The layer's levels.
    priced: Whether a level also costs its own bits, at the price that the search had come to.

  Returns:
    The highest level first.
  """
  bits = np.clip(bits, palette.pmin - _BEYOND, palette.pmax + _BEYOND)
  levels = np.array(palette.descending, np.float64)[:, None]
  noise = np.exp2(2.0 * (bits - levels))
  return noise / _LN4 + levels if priced else noise


def level_counts(
  channel: Int[np.ndarray, "l c"], palette: Palette, granules: Mapping[int, int], whole: bool
) -> tuple[np.ndarray, np.ndarray]:
  """All counts that a layer's levels may have, and their errors; see `layer_options`.

  Args:
    channel: Errors of the layer's channels at each level, those of most learned bits first.
    palette: The layer's levels.
    granules: See `assign`.
    whole: Whether all channels get one level.

  Returns:
    int64[K, L], the highest level first, by increasing counts there; int64[K].
  """
  channels, levels = channel.shape[1], palette.descending
  prefix = {
    p: np.concatenate([[0], np.cumsum(row)]) for p, row in zip(levels, channel, strict=True)
  }
  if len(levels) == 1:
    return np.array([[channels]]), prefix[levels[0]][-1:]
  # Two levels are three whose first holds no channel.
  high, mid, low = (levels[0], *levels)[-3:]
  lengths = np.arange(channels + 1, 0, -1) if len(levels) == 3 else np.array([channels + 1])
  n_high = np.repeat(np.arange(len(lengths)), lengths)
  n_mid = np.arange(len(n_high)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
  n_low = channels - n_high - n_mid
  ragged = np.zeros(len(n_high), np.int64)
  for level, count in ((high, n_high), (mid, n_mid), (low, n_low)):
    ragged += count % granules.get(level, 1) != 0
  allowed = ragged <= 1
  if whole:
    allowed &= np.maximum(np.maximum(n_mid, n_low), n_high) == channels
  n_high, n_mid, n_low = n_high[allowed], n_mid[allowed], n_low[allowed]
  split = n_high + n_mid
  errors = prefix[high][n_high] + prefix[mid][split] - prefix[mid][n_high]
  errors += prefix[low][-1] - prefix[low][split]
  return np.stack([n_high, n_mid, n_low], axis=1)[:, -len(levels) :], errors


def layer_options(counts: np.ndarray, errors: np.ndarray, price: LayerPrice) -> LayerOptions:
  """What a layer can contribute to an optimum: the counts of least error for their price.

  Of equal ones those with the fewest channels at the highest level.

  Args:
    counts: See `level_counts`.
    errors: See `level_counts`.
    price: Of level counts.
  """
  prices = price(counts)
  best = undominated(prices, errors)
  return LayerOptions(prices[best], errors[best], counts[best])


def cheapest_counts(counts: np.ndarray, errors: np.ndarray, levels: tuple[int, ...]) -> np.ndarray:
  """The counts of least error, [L]; of equal ones those with the fewest bits."""
  ties = counts[errors == errors.min()]
  return ties[np.argmin(ties @ np.array(levels))]


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


def _fraction_bits(errors: Mapping[str, np.ndarray], slopes: Mapping[str, int]) -> int:
  """The finest power of two (16 at most) at which all costs together stay below 2^60."""
  most = 1.0 + sum(slopes[n] * float(np.sum(np.max(e, axis=0) + 1)) for n, e in errors.items())
  fraction_bits = min(_MAX_FRACTION_BITS, math.floor(59 - math.log2(most)))
  if fraction_bits < _MIN_FRACTION_BITS:
    raise ValueError(f"layers are too large for an exact assignment: total error up to {most:.3g}")
  return fraction_bits


def assign(
  bits: Mapping[str, Any],
  specs: LayerSpecs,
  budget: Budget | None,
  *,
  granules: Mapping[int, int] | None = None,
  whole_layers: bool = False,
) -> Assignment:
  """The cheapest assignment within the budget; see docs/assignment.md for the rules.

  Args:
    bits: Layer name -> learned bits [in_channels]; pinned layers may be left out.
    specs: The model's quantized layers.
    budget: What the network may cost, pinned layers included; None for no budget: each layer by
      itself, its bits at the price that the search had come to.
    granules: Level -> channels that a level's count must be a multiple of, except for one level per
      layer; a level left out has granule 1.
    whole_layers: All channels of a layer get one level.

  Returns:
    Levels of all layers. Within a layer a channel with more learned bits never has fewer than one
    with less; of channels with equal bits the earlier one has at least as many.

  Raises:
    ValueError: bits are missing, misshapen or not finite, a granule is not positive, or the budget
      is below the least that can be reached, which the message gives.
  """
  granules = dict(granules or {})
  for level, value in granules.items():
    if value < 1:
      raise ValueError(f"granules must be at least 1, got {value} for level {level}")
  prices = prices_of(budget, specs)
  free = prices.specs
  learned = _checked_bits(bits, free)
  order = {n: np.argsort(-b, kind="stable") for n, b in learned.items()}
  errors = {
    n: channel_errors(learned[n][order[n]], s.palette, budget is None) for n, s in free.items()
  }
  fraction_bits = _fraction_bits(errors, prices.slopes)
  possible = {}
  for name, spec in free.items():
    channel = np.rint(np.ldexp(errors[name], fraction_bits)).astype(np.int64)
    possible[name] = level_counts(channel, spec.palette, granules, whole_layers)
  if budget is None:
    chosen = {n: cheapest_counts(*possible[n], s.palette.descending) for n, s in free.items()}
  else:
    chosen = _solved(budget, prices, possible)
  result = {}
  for name, spec in free.items():
    result[name] = np.empty(spec.in_channels, np.int8)
    result[name][order[name]] = np.repeat(spec.palette.descending, chosen[name])
  return Assignment.create(specs, result)


def _solved(budget: Budget, prices: Prices, possible: Mapping[str, tuple]) -> dict[str, np.ndarray]:
  """Counts of all layers of least error within the limit."""
  options = {n: layer_options(*possible[n], prices.layers[n]) for n in possible}
  _check_reachable(budget, prices, [int(o.prices[0]) for o in options.values()])
  chosen = solve(
    [Options(o.prices, o.errors * prices.slopes[n]) for n, o in options.items()],
    prices.limit - prices.fixed,
  )
  return {n: o.counts[j] for (n, o), j in zip(options.items(), chosen, strict=True)}


def _check_reachable(budget: Budget, prices: Prices, least: Sequence[int]) -> None:
  """Refuses a limit below the layers' `least` prices."""
  total = prices.fixed + sum(least)
  if total > prices.limit:
    raise ValueError(
      f"budget limit must be at least {prices.text(total)}, the least {budget.quantity} "
      f"that the palettes, pinned layers and granules can reach, got {budget.limit}"
    )


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
