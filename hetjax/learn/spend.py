"""A common shift of the learned bits that lets their assignment use its whole budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hetjax.core.layers import LayerSpecs
from hetjax.learn.assign import assign
from hetjax.learn.budget import Budget
from hetjax.learn.prices import prices_of

_HALVINGS = 24


def spend_budget(
  bits: Mapping[str, Any],
  specs: LayerSpecs,
  budget: Budget,
  *,
  granules: Mapping[int, int] | None = None,
  whole_layers: bool = False,
) -> dict[str, np.ndarray]:
  """Learned bits moved by one common shift up to where their nearest levels exceed the budget.

  Search holds what continuous bits cost at the budget, but levels are uneven steps: a wide layer
  just above its lowest level rounds down and leaves bits unused. The shift keeps all differences
  between channels and is the least (to 2^-20) at which the nearest levels under the granules would
  cost more than the budget; `assign` then finds the best assignment within it. There is no shift
  down: too many bits are `assign`'s own business.

  Args:
    bits: Layer name -> learned bits [in_channels].
    specs: The model's quantized layers.
    budget: As for `assign`.
    granules: As for `assign`.
    whole_layers: As for `assign`.

  Returns:
    Layer name -> float64[in_channels]; the bits as they are if their nearest levels already cost
    more than the budget, or if the budget pays for the highest levels everywhere.
  """
  prices = prices_of(budget, specs)
  values = {name: np.asarray(value, np.float64) for name, value in bits.items()}

  def exceeds(shift: float) -> bool:
    moved = {name: value + shift for name, value in values.items()}
    nearest = assign(moved, specs, None, granules=granules, whole_layers=whole_layers)
    return prices.total(nearest) > prices.limit

  low = 0.0
  high = float(max(spec.palette.pmax for spec in specs.values()))
  if exceeds(low) or not exceeds(high):
    return values
  for _ in range(_HALVINGS):
    middle = (low + high) / 2
    low, high = (low, middle) if exceeds(middle) else (middle, high)
  return {name: value + high for name, value in values.items()}
