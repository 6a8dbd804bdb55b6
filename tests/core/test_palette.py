import itertools

import pytest

from hetjax.core import Palette
from hetjax.core.palette import ALLOWED_LEVELS, max_code, sigma


def test_sigma_is_half_the_spacing():
  assert [sigma(p) for p in (1, 2, 4, 8)] == [1.0, 0.5, 0.125, 0.0078125]
  assert [max_code(p) for p in (1, 2, 4, 8)] == [1, 3, 15, 255]


@pytest.mark.parametrize(
  "levels", [c for n in (1, 2, 3) for c in itertools.combinations(ALLOWED_LEVELS, n)]
)
def test_every_increasing_subset_of_up_to_three_levels_is_a_palette(levels):
  palette = Palette(levels)
  assert palette.pmax == max(levels)
  assert palette.pmin == min(levels)
  assert palette.descending == tuple(sorted(levels, reverse=True))
  for p in levels:
    # sigma(p)^2 is the value of a product of two odd levels at p bits.
    assert palette.multiplier(p) * palette.unit(signed=True) == sigma(p) ** 2
    assert palette.unit(signed=False) == 2 * palette.unit(signed=True)


@pytest.mark.parametrize(
  "levels", [(), (1, 2, 4, 8), (2, 1), (1, 1), (3,), (0, 1), (16,), (True, 2), ("1",), 4]
)
def test_anything_else_is_refused_by_name(levels):
  with pytest.raises(ValueError, match="palette levels"):
    Palette(levels)


def test_palettes_are_values():
  assert Palette((1, 4)) == Palette([1, 4])
  assert hash(Palette((1, 4))) == hash(Palette((1, 4)))
