"""Budgets on learned bits, held by a multiplier that the training loop adapts.

The loss carries `multiplier * measure / unit` (`penalty`); after each step the multiplier climbs in
proportion to the excess over the target and falls, never below zero, when the budget is met: dual
ascent on the constraint. The target itself ramps from the starting value, so that bits come down
gradually. All functions but the config's construction are pure and traceable.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from hetjax.core.layers import LayerSpecs
from hetjax.core.precision import Bits, mean_bits, total_bits
from hetjax.hardware import Target
from hetjax.learn.regularizers import target_cycles

QUANTITIES = ("mean_bits_params", "mean_bits_macs", "file_bytes", "target_cycles")

Scalar = Float[Array, ""] | float


@dataclasses.dataclass(frozen=True)
class Budget:
  """What learned bits may cost.

  Attributes:
    quantity: "mean_bits_params" or "mean_bits_macs" (bits), "file_bytes" (bytes of the packed
      weights plus `overhead_bytes`, row padding not counted), or "target_cycles" (fraction of the
      cycles that all channels at their palette's top would take on `machine`; both contain what no
      bits change, which no fraction can undercut).
    target: Allowed value of the quantity, in its unit.
    rate: Change of the multiplier per step and unit of excess (see `unit`).
    ramp_fraction: Part of the search phase over which the target ramps; 0 sets it at once.
    overhead_bytes: For "file_bytes", what the file holds besides the packed weights.
    machine: For "target_cycles", the hardware target.

  Raises:
    ValueError: an unknown quantity or a value out of range.
  """

  quantity: str
  target: float
  rate: float = 0.02
  ramp_fraction: float = 0.6
  overhead_bytes: int = 0
  machine: Target | None = None

  def __post_init__(self):
    if self.quantity not in QUANTITIES:
      raise ValueError(f"budget quantity must be among {QUANTITIES}, got {self.quantity!r}")
    for field in ("target", "rate"):
      value = getattr(self, field)
      if not (math.isfinite(value) and value > 0):
        raise ValueError(f"budget {field} must be positive and finite, got {value}")
    if not 0 <= self.ramp_fraction <= 1:
      raise ValueError(f"budget ramp_fraction must be in [0, 1], got {self.ramp_fraction}")
    if self.overhead_bytes < 0:
      raise ValueError(f"budget overhead_bytes must not be negative, got {self.overhead_bytes}")
    if (self.machine is None) == (self.quantity == "target_cycles"):
      raise ValueError(
        "budget machine must be given for quantity 'target_cycles' and for no other, "
        f"got {self.machine!r} for {self.quantity!r}"
      )


def measure(budget: Budget, bits: Bits, specs: LayerSpecs) -> Float[Array, ""]:
  """Value of the budgeted quantity at learned bits, in the quantity's unit; differentiable."""
  if budget.quantity == "mean_bits_params":
    return mean_bits(bits, specs, "params")
  if budget.quantity == "mean_bits_macs":
    return mean_bits(bits, specs, "macs")
  if budget.quantity == "file_bytes":
    return total_bits(bits, specs, "params") / 8.0 + budget.overhead_bytes
  return target_cycles(bits, specs, target=budget.machine)


def unit(budget: Budget, specs: LayerSpecs) -> float:
  """Step of the quantity that the rate refers to, so that one rate serves every quantity.

  One bit for mean bits, the bytes of one bit per weight for file bytes, and the whole for cycles.
  """
  return sum(s.weights for s in specs.values()) / 8.0 if budget.quantity == "file_bytes" else 1.0


def ramped_target(start: Scalar, target: Scalar, fraction_done: Scalar, ramp: float) -> Scalar:
  """Target now: linear from `start` to `target` over the first `ramp` of the phase, then `target`.

  A start that already meets the target does not ramp: the target holds from the beginning.

  Args:
    start: Value of the quantity before the first step.
    target: Final target.
    fraction_done: Steps done over steps of the phase, 0 to 1.
    ramp: Fraction of the phase over which to ramp; a Python float.
  """
  left = jnp.clip(1.0 - fraction_done / ramp, 0.0, 1.0) if ramp > 0 else 0.0
  return target + left * jnp.maximum(start - target, 0.0)


def update_multiplier(
  multiplier: Scalar, value: Scalar, target_now: Scalar, rate: Scalar
) -> Float[Array, ""]:
  """One step of dual ascent: `max(0, multiplier + rate * (value - target_now))`."""
  return jnp.maximum(0.0, multiplier + rate * (value - target_now))


def penalty(budget: Budget, multiplier: Scalar, bits: Bits, specs: LayerSpecs) -> Any:
  """Term of the loss: `multiplier * measure / unit`."""
  return multiplier * measure(budget, bits, specs) / unit(budget, specs)


def step_multiplier(
  budget: Budget,
  multiplier: Scalar,
  value: Scalar,
  start: Scalar,
  fraction_done: Scalar,
  specs: LayerSpecs,
) -> Float[Array, ""]:
  """Multiplier after a step of the search, the target ramped and the excess in units of `unit`.

  Args:
    budget: The budget.
    multiplier: Multiplier that the step used, not negative.
    value: `measure` at the step's bits.
    start: `measure` before the first step.
    fraction_done: Steps done over steps of the phase.
    specs: The model's quantized layers.
  """
  scale = unit(budget, specs)
  now = ramped_target(start, budget.target, fraction_done, budget.ramp_fraction)
  return update_multiplier(multiplier, value / scale, now / scale, budget.rate)
