"""Progressive freezing: towards the end of a search more and more channels come to rest on levels.

After Zhou et al., Incremental Network Quantization (2017), with channels' precisions for weights:
what is frozen already is what the rest of the network adapts to, so that assignment, which comes
after the search, has little left to change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from hetjax.core.layers import LayerSpecs
from hetjax.core.precision import bits_of_s, get_path, s_of_bits, set_path

_LEAST_BITS = 1.001  # no finite s has exactly one bit


def share_frozen(fraction_done: Float[Array, ""] | float, fraction: float) -> Float[Array, ""]:
  """Part of a layer's channels that are frozen: 0 until the last `fraction`, then linearly to 1."""
  return jnp.clip((fraction_done - (1.0 - fraction)) / fraction, 0.0, 1.0)


def freeze(
  precision: Mapping[str, Any],
  specs: LayerSpecs,
  fraction_done: Float[Array, ""] | float,
  fraction: float,
) -> Mapping[str, Any]:
  """Moves the channels nearest to a level of their palette onto it, `share_frozen` of each layer.

  Channels at the same distance are frozen together. A channel on a level is the nearest, so what
  was frozen stays so.

  Args:
    precision: The `precision` collection.
    specs: The model's quantized layers.
    fraction_done: Steps done over steps of the search.
    fraction: Last part of the search in which channels are frozen, in (0, 1].
  """
  share = share_frozen(fraction_done, fraction)
  for name, spec in specs.items():
    if spec.pinned_bits is not None:
      continue
    s = get_path(precision, name)["s"]
    bits = bits_of_s(s)
    levels = jnp.asarray(spec.palette.levels, jnp.float32)
    distances = jnp.abs(bits[:, None] - levels)
    nearest, distance = levels[jnp.argmin(distances, axis=1)], jnp.min(distances, axis=1)
    nearer = jnp.searchsorted(jnp.sort(distance), distance)  # how many channels are nearer
    rest = s_of_bits(jnp.maximum(nearest, _LEAST_BITS))
    frozen = jnp.where(nearer < jnp.floor(share * spec.in_channels), rest, s)
    precision = set_path(precision, name, {"s": frozen})
  return precision
