"""Costs from measured times: robust fits of sums of costs, and steps of staircases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

GRANULES = (1, 2, 4, 8, 16, 32, 48, 64)


def relative_fit(
  counts: Float[np.ndarray, "n costs"], seconds: Float[np.ndarray, " n"], rounds: int = 30
) -> Float[np.ndarray, " costs"]:
  """Costs, none negative, whose sums predict times with little absolute relative error.

  Absolute instead of squared errors: a few layers that were disturbed, or that the model does not
  fit, then do not bend the rest. Least squares whose weights follow from the last errors.

  Args:
    counts: How often each time contains each cost.
    seconds: The times, positive.
    rounds: Of weights.

  Returns:
    Seconds of every cost; 0 for one that is nowhere counted.
  """
  relative = counts / seconds[:, None]
  weights = np.ones(len(seconds))
  for _ in range(rounds):
    costs = non_negative_fit(relative * weights[:, None], weights)
    # Errors of less than a fiftieth are noise, and a weight must not be without bounds.
    weights = 1 / np.sqrt(np.maximum(np.abs(relative @ costs - 1), 0.02))
  return costs


def non_negative_fit(
  a: Float[np.ndarray, "n k"], b: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " k"]:
  """Least squares of a x = b with x >= 0: while factors come out negative, the least is dropped."""
  size = np.linalg.norm(a, axis=0)
  kept = np.flatnonzero(size)
  while True:
    found = np.linalg.lstsq(a[:, kept] / size[kept], b, rcond=None)[0]
    if np.all(found >= 0):
      x = np.zeros(a.shape[1])
      x[kept] = found / size[kept]
      return x
    kept = np.delete(kept, np.argmin(found))


def granule_of(counts: Sequence[int], seconds: Sequence[float]) -> int:
  """The step of a staircase: channels come without loss in multiples of it.

  Args:
    counts: Channels.
    seconds: Of a layer with so many; positive.

  Returns:
    That of `GRANULES` whose stairs `a + b ceil(count / granule)` predict the times with the least
    mean relative error; a coarser one must take a tenth off the error of a finer one.
  """
  best, least = 1, np.inf
  for granule in GRANULES:
    stairs = np.ceil(np.asarray(counts) / granule)
    features = np.stack([stairs, np.ones_like(stairs)], axis=1)
    error = relative_error(features, relative_fit(features, np.asarray(seconds)), seconds)
    if error < 0.9 * least:
      best, least = granule, error
  return best


def relative_error(
  counts: Float[np.ndarray, "n costs"],
  costs: Float[np.ndarray, " costs"],
  seconds: Float[np.ndarray, " n"],
) -> float:
  """Mean absolute relative error of times predicted from costs."""
  return float(np.mean(np.abs(counts @ costs / seconds - 1)))
