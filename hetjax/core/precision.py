"""Learned precisions: `s <-> bits`, and weighted means and totals over a model's layers.

A channel's learned real `s` stands for the noise magnitude `sigma(s) = 1 / (1 + exp(-s))`, hence
for `bits(s) = 1 - log2 sigma(s) = 1 + log2(1 + exp(-s))`, a real above 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hetjax.core.layers import LayerSpecs

Bits = Mapping[str, Float[Array, " c"]]
_LN2 = math.log(2.0)


def sigma_of_s(s: Float[Array, "*c"]) -> Float[Array, "*c"]:
  """Noise magnitude of a learned precision, in (0, 1)."""
  return jax.nn.sigmoid(s)


def bits_of_s(s: Float[Array, "*c"]) -> Float[Array, "*c"]:
  """Continuous bits of a learned precision, above 1; stable for large |s|."""
  return 1.0 + jax.nn.softplus(-s) / _LN2


def s_of_bits(bits: Float[Array, "*c"] | float) -> Float[Array, "*c"]:
  """Inverse of `bits_of_s`: `-log(2^(bits - 1) - 1)` for bits above 1."""
  return -jnp.log(jnp.expm1((jnp.asarray(bits, jnp.float32) - 1.0) * _LN2))


def get_path(tree: Mapping[str, Any], name: str) -> Any:
  """Node of a nested mapping at the "/"-joined path `name`.

  Raises:
    KeyError: the path does not exist; the message holds the whole path.
  """
  node: Any = tree
  for part in name.split("/") if name else ():
    if not isinstance(node, Mapping) or part not in node:
      raise KeyError(f"no entry at {name!r}: {part!r} is missing")
    node = node[part]
  return node


def set_path(tree: Mapping[str, Any], name: str, value: Any) -> dict[str, Any]:
  """A copy of a nested mapping with `value` at the "/"-joined path `name`."""
  if not name:
    return value
  head, _, rest = name.partition("/")
  node = dict(tree)
  node[head] = set_path(node.get(head, {}), rest, value)
  return node


def learned_bits(precision: Mapping[str, Any], specs: LayerSpecs) -> dict[str, Array]:
  """Continuous bits per channel of every layer.

  Args:
    precision: The `precision` collection: an `s` f32[in_channels] for each layer not pinned.
    specs: The model's quantized layers.

  Returns:
    Layer name -> f32[in_channels]; pinned layers hold their constant level.
  """
  out = {}
  for name, spec in specs.items():
    if spec.pinned_bits is not None:
      out[name] = jnp.full((spec.in_channels,), float(spec.pinned_bits), jnp.float32)
    else:
      out[name] = bits_of_s(get_path(precision, name)["s"])
  return out


def channel_weights(specs: LayerSpecs, by: str) -> dict[str, float]:
  """What one channel of each layer counts in a mean over the network.

  Args:
    specs: The model's quantized layers.
    by: "params" (weights per channel), "macs" (multiply-accumulates per example) or "channels".

  Returns:
    Layer name -> count per channel.
  """
  if by == "params":
    return {n: float(s.weights_per_channel) for n, s in specs.items()}
  if by == "macs":
    return {n: float(s.macs_per_channel) for n, s in specs.items()}
  if by == "channels":
    return {n: 1.0 for n in specs}
  raise ValueError(f"by must be 'params', 'macs' or 'channels', got {by!r}")


def total_bits(bits: Bits, specs: LayerSpecs, by: str = "params") -> Float[Array, ""]:
  """Sum over channels of bits times `channel_weights`: by params, the packed weights' bits."""
  weights = channel_weights(specs, by)
  return sum(weights[n] * jnp.sum(jnp.asarray(bits[n], jnp.float32)) for n in specs)


def mean_bits(bits: Bits, specs: LayerSpecs, by: str = "params") -> Float[Array, ""]:
  """Mean bits over the network weighted by `channel_weights`, pinned layers included."""
  weights = channel_weights(specs, by)
  return total_bits(bits, specs, by) / sum(weights[n] * s.in_channels for n, s in specs.items())
