"""Assignments that learn nothing, to compare learned ones with at the same mean bits.

Both spread scores into bits and hand those to `hetjax.learn.assign`, so budget, granules and
pinned layers are treated exactly as for learned bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hetjax.core.assignment import Assignment
from hetjax.core.layers import LayerSpecs
from hetjax.core.precision import channel_weights
from hetjax.learn.assign import assign


def assign_random(
  specs: LayerSpecs,
  mean_bits: float,
  seed: int,
  *,
  by: str = "params",
  granules: Mapping[int, int] | None = None,
) -> Assignment:
  """Levels by chance: every channel's score is uniform, the same for equal seeds.

  Args:
    specs: The model's quantized layers.
    mean_bits: Largest mean bits, as for `assign`.
    seed: Seed of NumPy's default generator.
    by: As for `assign`.
    granules: As for `assign`.
  """
  rng = np.random.default_rng(seed)
  scores = {n: rng.random(s.in_channels) for n, s in specs.items() if s.pinned_bits is None}
  return assign_by_score(scores, specs, mean_bits, by=by, granules=granules)


def assign_by_weight_rms(
  kernels: Mapping[str, Any],
  specs: LayerSpecs,
  mean_bits: float,
  *,
  by: str = "params",
  granules: Mapping[int, int] | None = None,
) -> Assignment:
  """More bits to channels with larger weights, by their root mean square over the whole network.

  Args:
    kernels: Layer name -> float weights [kh, kw, C // groups, N] (or [C, N]) of a float network;
      pinned layers may be left out.
    specs: The model's quantized layers.
    mean_bits: As for `assign`.
    by: As for `assign`.
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
  return assign_by_score(scores, specs, mean_bits, by=by, granules=granules)


def assign_by_score(
  scores: Mapping[str, np.ndarray],
  specs: LayerSpecs,
  mean_bits: float,
  *,
  by: str = "params",
  granules: Mapping[int, int] | None = None,
) -> Assignment:
  """More bits to higher scores, every level in use, close to the budget from below.

  A channel's rank u in (0, 1) among all channels becomes `pmin + (pmax - pmin) * u^g` bits, with
  `g >= 0` such that a uniform u has on average the bits that the budget leaves to a channel.

  Args:
    scores: Layer name -> [in_channels] for every layer that is not pinned; ties by layer and index.
    specs: The model's quantized layers.
    mean_bits: As for `assign`.
    by: As for `assign`.
    granules: As for `assign`.
  """
  free = {n: s for n, s in specs.items() if s.pinned_bits is None}
  if not free:
    return assign({}, specs, mean_bits=mean_bits, by=by, granules=granules)
  weights = {n: w * specs[n].in_channels for n, w in channel_weights(specs, by).items()}
  pinned = sum(weights[n] * s.pinned_bits for n, s in specs.items() if n not in free)
  left = (mean_bits * sum(weights.values()) - pinned) / sum(weights[n] for n in free)
  flat = np.concatenate([np.asarray(scores[n], np.float64) for n in free])
  quantile = np.empty(len(flat))
  quantile[np.argsort(flat, kind="stable")] = (np.arange(len(flat)) + 0.5) / len(flat)
  bits, begin = {}, 0
  for name, spec in free.items():
    low, high = spec.palette.pmin, spec.palette.pmax
    # The mean of u^g is 1 / (1 + g). An unreachable budget is for `assign` to refuse.
    share = np.clip((left - low) / max(high - low, 1), 1e-3, 1.0)
    u = quantile[begin : begin + spec.in_channels]
    bits[name] = low + (high - low) * u ** (1 / share - 1)
    begin += spec.in_channels
  return assign(bits, specs, mean_bits=mean_bits, by=by, granules=granules)
