"""Assignments that learn nothing, to compare learned ones with under the same budget.

Both spread scores into bits and hand those to `hetjax.learn.assign`, so budget, granules and
pinned layers are treated exactly as for learned bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hetjax.core.assignment import Assignment
from hetjax.core.layers import LayerSpecs
from hetjax.learn.assign import assign
from hetjax.learn.budget import Budget
from hetjax.learn.prices import prices_of

_HALVINGS = 30


def assign_random(
  specs: LayerSpecs, budget: Budget, seed: int, *, granules: Mapping[int, int] | None = None
) -> Assignment:
  """Levels by chance: every channel's score is uniform, the same for equal seeds.

  Args:
    specs: The model's quantized layers.
    budget: As for `assign`.
    seed: Seed of NumPy's default generator.
    granules: As for `assign`.
  """
  rng = np.random.default_rng(seed)
  scores = {n: rng.random(s.in_channels) for n, s in specs.items() if s.pinned_bits is None}
  return assign_by_score(scores, specs, budget, granules=granules)


def assign_by_weight_rms(
  kernels: Mapping[str, Any],
  specs: LayerSpecs,
  budget: Budget,
  *,
  granules: Mapping[int, int] | None = None,
) -> Assignment:
  """More bits to channels with larger weights, by their root mean square over the whole network.

  Args:
    kernels: Layer name -> float weights [kh, kw, C // groups, N] (or [C, N]) of a float network;
      pinned layers may be left out.
    specs: The model's quantized layers.
    budget: As for `assign`.
    granules: As for `assign`.

  Raises:
    ValueError: a kernel's size is not that of its layer.
  """
  scores = {}
  for name, spec in specs.items():
    if spec.pinned_bits is not None:
      continue
    kernel = np.asarray(kernels[name], np.float64)
    if kernel.size != spec.weights:
      raise ValueError(
        f"kernel of {name!r} must have shape {spec.kernel_shape}, got {kernel.shape}"
      )
    # Input channel k belongs to group k // (C // groups), as does a block of output channels.
    grouped = kernel.reshape(spec.taps, spec.kernel_shape[2], spec.groups, -1)
    scores[name] = np.sqrt(np.mean(grouped**2, axis=(0, 3))).T.reshape(-1)
  return assign_by_score(scores, specs, budget, granules=granules)


def assign_by_score(
  scores: Mapping[str, np.ndarray],
  specs: LayerSpecs,
  budget: Budget,
  *,
  granules: Mapping[int, int] | None = None,
) -> Assignment:
  """More bits to higher scores, every level in use, close to the budget from below.

  A channel's rank u in (0, 1) among all channels becomes `pmin + (pmax - pmin) * u^g` bits, with
  the least `g >= 0` at which the levels that these have without a budget are within it.

  Args:
    scores: Layer name -> [in_channels] for every layer that is not pinned; ties by layer and index.
    specs: The model's quantized layers.
    budget: As for `assign`.
    granules: As for `assign`.
  """
  free = {n: s for n, s in specs.items() if s.pinned_bits is None}
  if not free:
    return assign({}, specs, budget, granules=granules)
  flat = np.concatenate([np.asarray(scores[n], np.float64) for n in free])
  quantile = np.empty(len(flat))
  quantile[np.argsort(flat, kind="stable")] = (np.arange(len(flat)) + 0.5) / len(flat)
  ends = np.cumsum([s.in_channels for s in free.values()])[:-1]
  ranks = dict(zip(free, np.split(quantile, ends), strict=True))
  prices = prices_of(budget, specs)

  def spread(share: float) -> dict[str, np.ndarray]:
    """Bits whose mean is about this share of the way up; the mean of u^g is 1 / (1 + g)."""
    power = 1 / share - 1
    return {
      n: s.palette.pmin + (s.palette.pmax - s.palette.pmin) * ranks[n] ** power
      for n, s in free.items()
    }

  low, high = 1e-3, 1.0
  for _ in range(_HALVINGS):
    middle = (low + high) / 2
    free_of_it = assign(spread(middle), specs, None, granules=granules)
    low, high = (low, middle) if prices.total(free_of_it) > prices.limit else (middle, high)
  return assign(spread(high), specs, budget, granules=granules)
