"""Progressive freezing: towards the end of a search more and more channels come to rest on levels.

After Zhou et al., Incremental Network Quantization (2017), with channels' precisions for weights:
what rests already is what the rest of the network adapts to. Channels rest beside their level, in
the order of what they had learned, since an assignment that has to leave the nearest levels for its
budget asks for that order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from hetjax.core.layers import LayerSpec, LayerSpecs
from hetjax.core.precision import bits_of_s, get_path, s_of_bits, set_path

_AT_REST = 0.01  # bits from a level within which a channel rests
_LEAST = 1e-4  # above one bit, which no finite s has


def freeze(
  before: Mapping[str, Any],
  after: Mapping[str, Any],
  specs: LayerSpecs,
  *,
  steps_done: Int[Array, ""] | int,
  steps: int,
  fraction: float,
) -> Mapping[str, Any]:
  """Precisions after a step, of which those that rested before it have not moved, and more rest.

  In the last `fraction` of the search a share of every layer's channels rests that grows linearly
  from none to all: those nearest to a level of their palette. Channels equally near come to rest
  together, once the share has room for them, so a layer that learns one precision rests as a whole.

  Args:
    before: The `precision` collection before the optimizer's step.
    after: The same after it.
    specs: The model's quantized layers.
    steps_done: Steps of the search, this one included.
    steps: Of the whole search.
    fraction: In (0, 1].
  """
  window = max(1, round(fraction * steps))
  into = jnp.maximum(steps_done - (steps - window), 0)
  for name, spec in specs.items():
    if spec.pinned_bits is None:
      s = [get_path(tree, name)["s"] for tree in (before, after)]
      # In integers: a rounded share would leave the last channel out.
      rested = _rest(*s, spec, into * spec.in_channels // window, into > 0)
      after = set_path(after, name, {"s": rested})
  return after


def _rest(
  before: Float[Array, " c"],
  after: Float[Array, " c"],
  spec: LayerSpec,
  count: Int[Array, ""],
  begun: Bool[Array, ""],
) -> Float[Array, " c"]:
  nearest = _nearest(spec)
  s = jnp.where(begun & (nearest(before)[1] <= _AT_REST), before, after)
  level, distance = nearest(s)
  order = jnp.where(distance <= _AT_REST, 0.0, distance)
  near = jnp.searchsorted(jnp.sort(order), order, side="right") <= count
  beside = level + 0.5 * _AT_REST * jnp.tanh(bits_of_s(s) - level)
  moved = near & (distance > _AT_REST)
  return jnp.where(moved, s_of_bits(jnp.maximum(beside, 1.0 + _LEAST)), s)


def _nearest(spec: LayerSpec) -> Callable[[Array], tuple[Array, Array]]:
  levels = jnp.asarray(spec.palette.levels, jnp.float32)

  def nearest(s):
    distances = jnp.abs(bits_of_s(s)[:, None] - levels)
    return levels[jnp.argmin(distances, axis=1)], jnp.min(distances, axis=1)

  return nearest
