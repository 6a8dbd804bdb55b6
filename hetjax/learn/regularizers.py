"""Named penalties on learned bits: pure functions of (bits, specs), summed with weights.

A regularizer is a function `f(bits, specs, **kwargs) -> f32[]`, `bits` being layer name ->
continuous bits f32[in_channels] as `hetjax.core.precision.learned_bits` returns them. To add one,
write the function and decorate it with `@register("its_name")`; configurations then choose it by
that name.
All are differentiable almost everywhere in the bits, traceable, and scaled so that a weight means
about the same for every network: bits, a fraction of the cost, or a mean over the network.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
from flax.core import FrozenDict
from jaxtyping import Array, Float

from hetjax.core.layers import LayerSpec, LayerSpecs
from hetjax.core.precision import Bits, channel_weights, mean_bits
from hetjax.hardware import Target, network_cycles

Regularizer = Callable[..., Float[Array, ""]]

_registry: dict[str, Regularizer] = {}
REGULARIZERS: Mapping[str, Regularizer] = MappingProxyType(_registry)
"""Registered regularizers by name; read-only, `register` adds to it."""


def register(name: str) -> Callable[[Regularizer], Regularizer]:
  """Decorator that makes a regularizer known as `name`.

  Raises:
    ValueError: another function already has this name.
  """

  def add(function: Regularizer) -> Regularizer:
    if name in _registry:
      raise ValueError(f"regularizer {name!r} is registered already, choose another name")
    _registry[name] = function
    return function

  return add


@dataclasses.dataclass(frozen=True)
class RegularizerConfig:
  """One weighted regularizer of a loss.

  Attributes:
    name: Name in `REGULARIZERS`.
    weight: Factor in the loss, finite.
    kwargs: Arguments of the function beyond bits and specs.
    label: Name in logs; the regularizer's own name if empty. Needed to use one function twice.

  Raises:
    ValueError: unknown name, or a weight that is not finite.
  """

  name: str
  weight: float
  kwargs: Mapping[str, Any] = FrozenDict()
  label: str = ""

  def __post_init__(self):
    if self.name not in REGULARIZERS:
      raise ValueError(f"regularizer name must be among {sorted(REGULARIZERS)}, got {self.name!r}")
    if not math.isfinite(self.weight):
      raise ValueError(f"weight of regularizer {self.name!r} must be finite, got {self.weight}")
    object.__setattr__(self, "kwargs", FrozenDict(self.kwargs))
    object.__setattr__(self, "label", self.label or self.name)


def total(
  configs: Iterable[RegularizerConfig], bits: Bits, specs: LayerSpecs
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
  """Weighted sum of regularizers, and each one's value before its weight, by label.

  Raises:
    ValueError: two configurations have the same label.
  """
  penalty = jnp.float32(0.0)
  values: dict[str, Float[Array, ""]] = {}
  for config in configs:
    if config.label in values:
      raise ValueError(f"regularizer label {config.label!r} occurs twice, give each its own label")
    values[config.label] = REGULARIZERS[config.name](bits, specs, **config.kwargs)
    penalty = penalty + config.weight * values[config.label]
  return penalty, values


@register("mean_bits_params")
def mean_bits_params(bits: Bits, specs: LayerSpecs) -> Float[Array, ""]:
  """Mean bits per weight, pinned layers included."""
  return mean_bits(bits, specs, "params")


@register("mean_bits_macs")
def mean_bits_macs(bits: Bits, specs: LayerSpecs) -> Float[Array, ""]:
  """Mean bits per multiply-accumulate, pinned layers included."""
  return mean_bits(bits, specs, "macs")


@register("target_cycles")
def target_cycles(bits: Bits, specs: LayerSpecs, *, target: Target) -> Float[Array, ""]:
  """Cycles of the network on a hardware target, relative to every channel at its palette's top."""
  top = {n: jnp.full((s.in_channels,), s.palette.pmax, jnp.float32) for n, s in specs.items()}
  return network_cycles(bits, specs, target) / network_cycles(top, specs, target)


@register("energy")
def energy(
  bits: Bits,
  specs: LayerSpecs,
  *,
  multiply_pj: float = 0.2,
  add_pj: float = 0.03,
  weight_pj: float = 160.0,
) -> Float[Array, ""]:
  """Energy of an example, relative to that of every channel at its palette's top.

  A product of two operands of p bits takes `(p / 8)^2` of one of 8 bits, an addition and the
  reading of a weight from memory `p / 8`.

  Args:
    bits: Learned bits per layer.
    specs: The model's quantized layers.
    multiply_pj: Picojoules of an 8-bit multiplication.
    add_pj: Picojoules of an 8-bit addition.
    weight_pj: Picojoules of reading 8 bits from memory. The defaults are those of a 45 nm process
      (Horowitz, ISSCC 2014, figure 1.1.9: DRAM 1.3 to 2.6 nJ for 64 bits, of which 160 pJ for 8
      are the lower end).
  """
  top = {n: jnp.full((s.in_channels,), float(s.palette.pmax)) for n, s in specs.items()}

  def joules(bits):
    total = jnp.float32(0.0)
    for name, spec in specs.items():
      part = bits[name] / 8
      total += spec.macs_per_channel * jnp.sum(multiply_pj * part**2 + add_pj * part)
      total += spec.weights_per_channel * jnp.sum(weight_pj * part)
    return total

  return joules(bits) / joules(top)


def soft_counts(bits: Float[Array, " c"], levels: tuple[int, ...]) -> Float[Array, " l"]:
  """Channels at each level, a channel between two levels shared linearly between them.

  Args:
    bits: Continuous bits of a layer's channels; those outside the palette count for its ends.
    levels: Increasing levels.

  Returns:
    f32[len(levels)], summing to the number of channels.
  """
  clipped = jnp.clip(bits, levels[0], levels[-1])
  eye = jnp.eye(len(levels), dtype=jnp.float32)
  grid = jnp.asarray(levels, jnp.float32)
  return jnp.stack([jnp.sum(jnp.interp(clipped, grid, eye[i])) for i in range(len(levels))])


def _granule_distance(bits: Float[Array, " c"], spec: LayerSpec, granules: Mapping[int, int]):
  counts = soft_counts(bits, spec.palette.levels)
  distances = []
  for i, level in enumerate(spec.palette.levels):
    granule = granules.get(level, 1)
    # A granule of one asks for nothing: soft counts between integers are no fault.
    distances.append(jnp.sin(jnp.pi / granule * counts[i]) ** 2 if granule > 1 else jnp.float32(0))
  distances = jnp.stack(distances)
  return jnp.sum(distances) - jnp.max(distances)


@register("granule")
def granule(bits: Bits, specs: LayerSpecs, *, granules: Mapping[int, int]) -> Float[Array, ""]:
  """How far the soft level counts of the layers are from what granules allow.

  With n_p the `soft_counts` of a layer and g_p the granule of level p, a layer's value is

      sum_p d_p - max_p d_p,    d_p = sin^2(pi n_p / g_p), and d_p = 0 where g_p = 1,

  zero if and only if all levels but one hold a multiple of their granule: the rule of
  `hetjax.learn.assign`, which lets one level per layer keep the remainder. The result is the mean
  over the layers that are not pinned, weighted by their parameters; it lies in [0, levels - 1].

  Args:
    bits: Learned bits per layer.
    specs: The model's quantized layers.
    granules: Level -> granule; a level left out has granule 1.
  """
  free = {n: s for n, s in specs.items() if s.pinned_bits is None}
  if not free:
    return jnp.float32(0.0)
  weighted = sum(s.weights * _granule_distance(bits[n], s, granules) for n, s in free.items())
  return weighted / float(sum(s.weights for s in free.values()))


@register("palette_attraction")
def palette_attraction(bits: Bits, specs: LayerSpecs, *, by: str = "params") -> Float[Array, ""]:
  """Mean squared distance, in bits^2, of learned bits from the nearest level of their palette.

  Zero exactly when every channel sits on a level, with a gradient that points to the nearest one
  and vanishes there. Pinned layers are left out of the mean.

  Args:
    bits: Learned bits per layer.
    specs: The model's quantized layers.
    by: What a channel counts in the mean: see `hetjax.core.precision.channel_weights`.
  """
  free = {n: s for n, s in specs.items() if s.pinned_bits is None}
  if not free:
    return jnp.float32(0.0)
  weights = channel_weights(free, by)
  weighted = 0.0
  for name, spec in free.items():
    distance = bits[name][:, None] - jnp.asarray(spec.palette.levels, jnp.float32)
    weighted += weights[name] * jnp.sum(jnp.min(distance**2, axis=1))
  return weighted / sum(weights[n] * s.in_channels for n, s in free.items())
