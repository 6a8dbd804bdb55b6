"""Exact multiple-choice knapsack: one option per layer, least cost within a capacity.

The capacity is relaxed with a multiplier: an option's reduced cost is its cost plus the multiplier
times its weight, minus the layer's least such sum. Any choice then costs the dual bound plus its
*excess*, the sum of its reduced costs and the multiplier times the unused capacity. So the choices
of excess at most `gap` contain the optimum as soon as they contain any feasible choice; they are
searched by dynamic programming for a gap that doubles until one is found. All numbers are integers,
so the result is the exact optimum, whatever the multiplier, which only decides how fast it comes.

The method is classical: reduction by reduced costs and dynamic programming over undominated
states (Kellerer, Pferschy and Pisinger, "Knapsack Problems", 2004, chapter 11).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

_LIMIT = 1 << 61
_BLOCK = 1 << 21  # states times options expanded at once, to bound the memory


@dataclasses.dataclass(frozen=True, eq=False)
class Options:
  """What may be chosen for one layer.

  Attributes:
    weights: int64[J], capacity used, not negative.
    costs: int64[J], not negative.
  """

  weights: np.ndarray
  costs: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class _Layer:
  """Undominated options by increasing weight; `index` points to the caller's options."""

  index: np.ndarray
  weights: np.ndarray
  costs: np.ndarray
  reduced: np.ndarray

  def within(self, gap: int) -> _Layer:
    keep = self.reduced <= gap
    return _Layer(self.index[keep], self.weights[keep], self.costs[keep], self.reduced[keep])


def undominated(weights: np.ndarray, costs: np.ndarray) -> np.ndarray:
  """Indices, by increasing weight, of the points that no other point beats or equals in both.

  Of equal points the first stays.
  """
  order = np.lexsort((np.arange(len(costs)), costs, weights))
  least = np.minimum.accumulate(costs[order])
  keep = np.ones(len(order), bool)
  keep[1:] = costs[order][1:] < least[:-1]
  return order[keep]


def solve(layers: Sequence[Options], capacity: int) -> list[int]:
  """Indices of the options, one per layer, of least total cost with total weight <= capacity.

  Among choices of equal cost one of least weight is taken; equal input gives equal output.

  Raises:
    ValueError: a layer has no option, a number is negative, the sums do not fit, or even the least
      weights exceed the capacity.
  """
  for options in layers:
    if len(options.weights) == 0 or len(options.weights) != len(options.costs):
      raise ValueError("layers must have at least one option each, a weight and a cost for each")
    if options.weights.min() < 0 or options.costs.min() < 0:
      raise ValueError("weights and costs must not be negative")
  for what in ("weights", "costs"):
    if sum(int(getattr(options, what).max()) for options in layers) >= _LIMIT // 2:
      raise ValueError(f"{what} must sum to less than 2^60")
  least = sum(int(options.weights.min()) for options in layers)
  if least > capacity:
    raise ValueError(f"capacity must be at least the least total weight {least}, got {capacity}")
  # More than all layers at their heaviest changes nothing, and the sums below stay in int64.
  capacity = min(capacity, sum(int(options.weights.max()) for options in layers))
  fronts = [undominated(options.weights, options.costs) for options in layers]
  points = [(o.weights[f], o.costs[f]) for o, f in zip(layers, fronts, strict=True)]
  multiplier = _multiplier(points, capacity)
  reduced = [
    _Layer(front, weights, costs, _reduced(weights, costs, multiplier))
    for front, (weights, costs) in zip(fronts, points, strict=True)
  ]
  gap = max(1, multiplier // 64)
  while True:
    chosen = _search([layer.within(gap) for layer in reduced], capacity, multiplier, gap)
    if chosen is not None:
      return chosen
    gap *= 2


def _hull(weights: np.ndarray, costs: np.ndarray) -> list[int]:
  """Indices of the lower convex hull of points with rising weights and falling costs."""
  hull: list[int] = []
  w, c = weights.tolist(), costs.tolist()
  for i in range(len(w)):
    while len(hull) > 1:
      a, b = hull[-2], hull[-1]
      if (c[a] - c[b]) * (w[i] - w[b]) > (c[b] - c[i]) * (w[b] - w[a]):
        break
      hull.pop()
    hull.append(i)
  return hull


def _multiplier(points: Sequence[tuple[np.ndarray, np.ndarray]], capacity: int) -> int:
  """Price per weight at which the convex relaxation uses up the capacity; 0 if it cannot."""
  left = capacity
  steps = []
  for weights, costs in points:
    hull = _hull(weights, costs)
    left -= int(weights[0])
    steps.append(np.stack([-np.diff(costs[hull]), np.diff(weights[hull])]))
  if not steps:
    return 0
  saved, used = np.concatenate(steps, axis=1)
  for i in np.argsort(-(saved / used), kind="stable"):
    left -= int(used[i])
    if left < 0:
      return int(saved[i]) // int(used[i])
  return 0


def _reduced(weights: np.ndarray, costs: np.ndarray, multiplier: int) -> np.ndarray:
  """Reduced costs, capped at a number above every gap; Python integers in between cannot wrap."""
  lagrangian = costs.astype(object) + multiplier * weights.astype(object)
  return np.minimum(lagrangian - lagrangian.min(), _LIMIT * 2 - 1).astype(np.int64)


def _search(layers: Sequence[_Layer], capacity: int, multiplier: int, gap: int) -> list[int] | None:
  """The best choice of excess at most `gap`, or None if there is none.

  States are undominated pairs (weight, cost) of the layers so far. A state goes when its excess
  can no longer stay within the gap: by its reduced costs and the capacity that even the heaviest
  options of the layers to come would leave unused.
  """
  # Coarse weights first: the fine ones, last, then only fill what is left.
  order = sorted(range(len(layers)), key=lambda i: (-int(np.ptp(layers[i].weights)), i))
  lightest = sum(int(layer.weights.min()) for layer in layers)
  heaviest = sum(int(layer.weights.max()) for layer in layers)
  weight = cost = excess = np.zeros(1, np.int64)
  trail = []
  for i in order:
    layer = layers[i]
    lightest -= int(layer.weights.min())
    heaviest -= int(layer.weights.max())
    rows = max(1, _BLOCK // len(layer.weights))
    blocks = []
    for begin in range(0, len(weight), rows):
      part = slice(begin, begin + rows)
      w = weight[part, None] + layer.weights
      e = excess[part, None] + layer.reduced
      keep = (e <= gap) & (w + lightest <= capacity)
      if multiplier:
        keep &= capacity - heaviest - w <= (gap - e) // multiplier
      row, option = np.nonzero(keep)
      c = cost[row + begin] + layer.costs[option]
      blocks.append((w[row, option], c, e[row, option], row + begin, option))
    w, c, e, row, option = (np.concatenate(column) for column in zip(*blocks, strict=True))
    if not len(w):
      return None
    best = undominated(w, c)
    weight, cost, excess = w[best], c[best], e[best]
    trail.append((row[best], option[best]))
  state = len(cost) - 1  # undominated states: the heaviest is the cheapest
  chosen = [0] * len(layers)
  for i, (row, option) in zip(reversed(order), reversed(trail), strict=True):
    chosen[i] = int(layers[i].index[option[state]])
    state = int(row[state])
  return chosen
