"""Cycles of a network on a target as a differentiable function of its channels' bits.

A channel of a layer costs its multiply-accumulates and its packed weight bytes at its level.
Outputs, positions and the layer itself cost what no level changes: a constant of each layer, which
latencies and budgets contain and gradients do not. Multiply-accumulates are those that run: output
channels are rounded up to the target's granule, but for depthwise layers.

Between two levels of the layer's palette the cost is interpolated linearly. Below the lowest level
it stays at the lowest's, the cheapest that the channel can get; above the highest it continues with
the last slope, so that a channel which starts above the palette is still drawn down. Granules of
input channels are not part of this cost: assignment rounds to them.
"""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hetjax.core.layers import LayerSpec, LayerSpecs
from hetjax.core.precision import Bits
from hetjax.hardware.target import Target


def padded_outputs(spec: LayerSpec, granule: int) -> int:
  """Output channels that are computed: each group's rounded up to `granule`.

  A depthwise layer, one input channel a group, runs over all groups at once and rounds nothing.
  """
  if spec.kernel_shape[2] == 1:
    return spec.out_channels
  return spec.groups * granule * math.ceil(spec.out_channels // spec.groups / granule)


def padded_macs_per_channel(spec: LayerSpec, granule: int) -> int:
  """Multiply-accumulates per example that run on one input channel, padded outputs included."""
  return spec.taps * padded_outputs(spec, granule) // spec.groups * spec.positions


def constant_counts(spec: LayerSpec, granule: int) -> dict[str, int]:
  """How often a layer pays what does not depend on its bits: attribute of `Target` -> count."""
  return {
    "cycles_per_output": padded_outputs(spec, granule) * spec.positions,
    "cycles_per_position": len(spec.palette.levels) * spec.positions,
    "cycles_per_op": 1,
  }


def constant_cycles(spec: LayerSpec, target: Target) -> float:
  """Cycles per example of a layer that do not depend on its bits."""
  counts = constant_counts(spec, target.output_granule)
  return sum(getattr(target, cost) * count for cost, count in counts.items())


def channel_costs(spec: LayerSpec, target: Target) -> tuple[float, ...]:
  """Cycles per example of one input channel of a layer at each level of its palette.

  Raises:
    ValueError: the target lacks a level of the palette.
  """
  macs = padded_macs_per_channel(spec, target.output_granule)
  return tuple(
    macs * target.level(p).cycles_per_mac
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
    by_bits = _interpolate(value, spec.palette.levels, channel_costs(spec, target))
    cycles[name] = constant_cycles(spec, target) + jnp.sum(by_bits)
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
