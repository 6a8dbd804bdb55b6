import numpy as np
import pytest

from hetjax.core import LayerSpec, Palette
from hetjax.core.precision import mean_bits
from hetjax.learn.assign import assign
from hetjax.learn.budget import Budget
from hetjax.learn.spend import spend_budget


def layer(name, channels, outputs=8, pinned=None):
  palette = Palette() if pinned is None else Palette((pinned,))
  return LayerSpec(name, (3, 3, channels, outputs), 1, palette, False, pinned, positions=16)


SPECS = {"a": layer("a", 16), "b": layer("b", 40, 24), "head": layer("head", 4, 4, pinned=8)}
WIDE = {"a": np.linspace(3, 4, 16), "b": np.linspace(1.2, 1.45, 40)}


def mean(limit):
  return Budget("mean_bits_params", limit)


def spent(bits, budget, **kwargs):
  moved = spend_budget(bits, SPECS, mean(budget), **kwargs)
  return assign(moved, SPECS, mean(budget), **kwargs)


@pytest.mark.parametrize("granules", [None, {1: 8, 2: 8, 4: 8}])
def test_the_whole_budget_is_used_up_to_one_step(granules):
  unspent = float(mean_bits(assign(WIDE, SPECS, mean(2.0), granules=granules).bits, SPECS))
  assert unspent < 1.6  # what rounding alone would leave of it
  spends = float(mean_bits(spent(WIDE, 2.0, granules=granules).bits, SPECS))
  largest_step = 9 * 24 * 8 / sum(s.weights for s in SPECS.values())
  assert 2.0 - largest_step <= spends <= 2.0


def test_differences_between_channels_are_kept():
  moved = spend_budget(WIDE, SPECS, mean(2.0))
  shift = moved["a"][0] - WIDE["a"][0]
  assert shift > 0
  for name, value in WIDE.items():
    np.testing.assert_allclose(moved[name], value + shift)


@pytest.mark.parametrize("budget", [1.3, 8.0])
def test_no_shift_where_the_budget_is_too_small_or_pays_for_everything(budget):
  moved = spend_budget(WIDE, SPECS, mean(budget))
  for name, value in WIDE.items():
    np.testing.assert_array_equal(moved[name], value)
