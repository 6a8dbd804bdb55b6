"""What a phase may do to gradients between the loss and the optimizer: pure functions of trees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hetjax.core import quantize
from hetjax.core.layers import LayerSpecs
from hetjax.core.precision import get_path, set_path
from hetjax.nn.quantized import per_weight


def shared_by_layers(precision: Mapping[str, Any]) -> Any:
  """Gradients of `precision`, each the mean over its layer.

  Channels that start alike and get one gradient stay alike.
  """
  return jax.tree.map(lambda g: jnp.broadcast_to(jnp.mean(g), g.shape), precision)


def scaled_by_rounding(
  gradients: Mapping[str, Any],
  params: Mapping[str, Any],
  assignment: Mapping[str, Any],
  specs: LayerSpecs,
  strength: float,
) -> Mapping[str, Any]:
  """Element-wise gradient scaling of kernels, after EWGS (Lee, Kim and Ham, 2021, 2104.00903).

  Straight through, a weight gets its level's gradient g wherever it is in the level's cell. Here it
  gets `g (1 + strength sign(g) (w - level) / sigma)`: larger where the descent leads to the level,
  smaller where it leads away. Unlike there distances are in halves of the cell, so that one
  strength suits all precisions, and activations' gradients stay as they are.

  Args:
    gradients: Of `params`.
    params: Linen `params`, kernels in grid units.
    assignment: The `assignment` collection.
    specs: The model's quantized layers, pinned ones included.
    strength: 0 to 1; at 1 the gradient is zero for a weight that is about to leave its cell.

  Returns:
    Gradients, changed where layers have kernels.
  """
  for name, spec in specs.items():
    pinned = spec.pinned_bits is not None
    bits = (
      np.full(spec.in_channels, spec.pinned_bits, np.int32)
      if pinned
      else get_path(assignment, name)["bits"].astype(jnp.int32)
    )
    bits = per_weight(jnp.asarray(bits), spec)
    layer, kernel = get_path(gradients, name), get_path(params, name)["kernel"]
    g = layer["kernel"]
    off = kernel - quantize.straight_through(kernel, bits, True)
    share = jnp.clip(off / quantize.sigma_of_bits(bits), -1.0, 1.0)  # beyond the grid, no more
    changed = {**layer, "kernel": g * (1.0 + strength * jnp.sign(g) * share)}
    gradients = set_path(gradients, name, changed)
  return gradients


def ramped_strength(
  precision: Mapping[str, Any], specs: LayerSpecs, steps_done: Any, steps: int, fraction: float
) -> Mapping[str, Any]:
  """`precision` whose layers inject noise that grows linearly to its full size.

  Until then s gets less gradient than the noise of its bits would give it.

  Args:
    precision: The collection that layers read in the noise modes.
    specs: The model's quantized layers.
    steps_done: Steps of the search before this one.
    steps: Of the whole search.
    fraction: Of the steps after which noise has its full size, sigma(s).
  """
  strength = jnp.minimum((steps_done + 1.0) / (fraction * steps), 1.0)
  for name, spec in specs.items():
    if spec.pinned_bits is None:
      layer = {**get_path(precision, name), "strength": strength}
      precision = set_path(precision, name, layer)
  return precision
