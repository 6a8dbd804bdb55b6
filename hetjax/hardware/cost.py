"""Cycles of a network on a target as a differentiable function of its channels' bits.

A channel of a layer costs its multiply-accumulates and its packed weight bytes at its level; every
layer costs a fixed amount besides. Between two levels of the layer's palette the cost is
interpolated linearly. Below the lowest level it stays at the lowest's, the cheapest that the
channel can get; above the highest it continues with the last slope, so that a channel which starts
above the palette is still drawn down. Granules are not part of this cost: assignment rounds to
them.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hetjax.core.layers import LayerSpec, LayerSpecs
from hetjax.core.precision import Bits
from hetjax.hardware.target import Target


def channel_costs(spec: LayerSpec, target: Target) -> tuple[float, ...]:
  """Cycles per example of one input channel of a layer at each level of its palette.

  Raises:
    ValueError: the target lacks a level of the palette.
  """
  return tuple(
    spec.macs_per_channel * target.level(p).cycles_per_mac
    + spec.weights_per_channel * p / 8 * target.cycles_per_byte
    for p in spec.palette.levels
  )


def layer_cycles(bits: Bits, specs: LayerSpecs, target: Target) -> dict[str, Float[Array, ""]]:
  """Cycles per example of every layer.

  Args:
    bits: Layer name -> bits per channel, [in_channels] of integers or reals; at integer bits of the
      palette the result is the cost of that assignment.
    specs: The model's quantized layers.
    target: The machine.

  Returns:
    Layer name -> float32 scalar, differentiable in `bits`.

  Raises:
    ValueError: a layer is missing, its bits have another shape, or the target lacks a level.
  """
  cycles = {}
  for name, spec in specs.items():
    if name not in bits:
      raise ValueError(f"bits must have an entry for layer {name!r}, got {sorted(bits)}")
    value = jnp.asarray(bits[name], jnp.float32)
    if value.shape != (spec.in_channels,):
      raise ValueError(
        f"bits of layer {name!r} must have shape ({spec.in_channels},), got {value.shape}"
      )
    costs = channel_costs(spec, target)
    cycles[name] = target.cycles_per_op + jnp.sum(_interpolate(value, spec.palette.levels, costs))
  return cycles


def network_cycles(bits: Bits, specs: LayerSpecs, target: Target) -> Float[Array, ""]:
  """Sum of `layer_cycles`, cycles per example of the whole network; 0 without layers."""
  return sum(layer_cycles(bits, specs, target).values(), jnp.float32(0.0))


def _interpolate(
  x: Float[Array, " c"], knots: tuple[int, ...], values: tuple[float, ...]
) -> Float[Array, " c"]:
  """The piecewise linear function through (knots, values), as described above.

  A sum of segments, each of which grows over its own stretch; the last one is not bounded.
  """
  result = jnp.full_like(x, values[0])
  last = len(knots) - 2
  for i, (low, high) in enumerate(itertools.pairwise(knots)):
    slope = (values[i + 1] - values[i]) / (high - low)
    grown = jax.nn.relu(x - low)
    result += slope * (grown if i == last else jnp.minimum(grown, float(high - low)))
  return result
