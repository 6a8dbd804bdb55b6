"""The knapsack solver against enumeration of all choices."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetjax.learn.knapsack import Options, solve, undominated

_layer = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60)), min_size=1, max_size=5)


def _brute(layers, capacity):
  best = None
  for choice in itertools.product(*layers):
    weight, cost = (sum(c[i] for c in choice) for i in (0, 1))
    if weight <= capacity and (best is None or (cost, weight) < best):
      best = (cost, weight)
  return best


def _options(layers):
  columns = [np.array(layer, np.int64).T for layer in layers]
  return [Options(weights, costs) for weights, costs in columns]


@settings(max_examples=400, deadline=None)
@given(st.lists(_layer, min_size=1, max_size=5), st.integers(0, 150))
def test_optimum_equals_enumeration(layers, capacity):
  expected = _brute(layers, capacity)
  if expected is None:
    with pytest.raises(ValueError, match="least total weight"):
      solve(_options(layers), capacity)
    return
  chosen = solve(_options(layers), capacity)
  cost = sum(layer[j][1] for layer, j in zip(layers, chosen, strict=True))
  weight = sum(layer[j][0] for layer, j in zip(layers, chosen, strict=True))
  assert (cost, weight) == expected
  assert chosen == solve(_options(layers), capacity)


def test_strongly_correlated_weights_need_an_exact_fill():
  # Cost falls by exactly the weight: the relaxation ties everywhere, only the fill decides.
  layers = [[(0, 1000), (w, 1000 - w)] for w in (13, 17, 29, 31, 37, 41, 43, 47)]
  chosen = solve(_options(layers), 101)
  assert sum(layer[j][0] for layer, j in zip(layers, chosen, strict=True)) == 101


def test_numbers_near_the_limits_do_not_wrap():
  big = 1 << 57
  layers = [[(1, big), (2, big - 1)], [(1, big), (3, 0)]]
  assert solve(_options(layers), 4) == [0, 1]
  assert solve(_options(layers), 10**30) == [1, 1]
  with pytest.raises(ValueError, match="costs must sum"):
    solve(_options([[(1, 1 << 60)]]), 4)


def test_no_layers_and_bad_options():
  assert solve([], 0) == []
  none = np.zeros(0, np.int64)
  with pytest.raises(ValueError, match="at least one option"):
    solve([*_options([[(1, 1)]]), Options(none, none)], 4)
  with pytest.raises(ValueError, match="negative"):
    solve(_options([[(-1, 1)]]), 4)


def test_undominated_keeps_the_first_of_equal_points():
  weights, costs = np.array([3, 1, 1, 2, 4]), np.array([1, 5, 5, 5, 1])
  assert undominated(weights, costs).tolist() == [1, 0]
