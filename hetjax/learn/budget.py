"""Budgets on learned bits, held by a multiplier that the training loop adapts.

The loss carries `multiplier * measure / unit` (`penalty`); after each step the multiplier climbs
while the quantity is above its limit and falls while it is below: dual ascent on the constraint,
damped by a factor that follows the excess itself (Platt and Barr, 1988). Both act on the
multiplier's logarithm, since where a search is at rest what a bit is worth falls about fourfold
with every bit (docs/assignment.md): some excess asks for much the same change of the logarithm
whether the limit is high or low and whatever scale the loss has. The limit itself ramps from the
starting value, so that bits come down gradually. All functions but the config's construction are
pure and traceable.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from hetjax.core.layers import LayerSpecs
from hetjax.core.precision import Bits, mean_bits, total_bits
from hetjax.hardware import Target, channel_costs, network_cycles

QUANTITIES = ("mean_bits_params", "mean_bits_macs", "file_bytes", "latency_us")

INITIAL = 1e-3  # multiplier; a wrong one costs a search the steps in which it grows or falls
LEAST, LARGEST = 1e-6, 1e3  # multipliers; from further out one would not come back in a search
# Larger excesses count as this. Learned bits move at Adam's pace: while they cannot follow, a
# multiplier that went on growing would end where it silences the loss and makes channels alike.
MOST_EXCESS = 0.3

Scalar = Float[Array, ""] | float


@dataclasses.dataclass(frozen=True)
class Budget:
  """What learned bits, and the levels assigned to them, may cost.

  Attributes:
    quantity: "mean_bits_params" or "mean_bits_macs" (bits, pinned layers included), "file_bytes"
      (bytes of the artifact), or "latency_us" (microseconds per example on `machine`, by
      `hetjax.hardware.cost`).
    limit: The most of the quantity that is allowed, in its unit.
    rate: Change of the multiplier's logarithm per step and unit of excess (see `unit`), of which
      no more than `MOST_EXCESS` counts.
    damping: What a unit of excess adds to that logarithm at once, for as long as it lasts.
    ramp_fraction: Part of the search phase over which the limit ramps; 0 sets it at once.
    overhead_bytes: For "file_bytes", what the file holds besides the packed weights; None until
      `hetjax.learn.overhead` has measured it.
    machine: For "latency_us", the hardware target.

  Raises:
    ValueError: an unknown quantity or a value out of range.
  """

  quantity: str
  limit: float
  rate: float = 0.1
  damping: float = 10.0
  ramp_fraction: float = 0.6
  overhead_bytes: int | None = None
  machine: Target | None = None

  def __post_init__(self):
    if self.quantity not in QUANTITIES:
      raise ValueError(f"budget quantity must be among {QUANTITIES}, got {self.quantity!r}")
    for field in ("limit", "rate"):
      value = getattr(self, field)
      if not (math.isfinite(value) and value > 0):
        raise ValueError(f"budget {field} must be positive and finite, got {value}")
    if self.quantity.startswith("mean_bits") and self.limit < 1:
      raise ValueError(f"budget limit of {self.quantity} must be at least 1, got {self.limit}")
    if not (math.isfinite(self.damping) and self.damping >= 0):
      raise ValueError(f"budget damping must be finite and not negative, got {self.damping}")
    if not 0 <= self.ramp_fraction <= 1:
      raise ValueError(f"budget ramp_fraction must be in [0, 1], got {self.ramp_fraction}")
    if self.overhead_bytes is not None and self.overhead_bytes < 0:
      raise ValueError(f"budget overhead_bytes must not be negative, got {self.overhead_bytes}")
    if (self.machine is None) == (self.quantity == "latency_us"):
      raise ValueError(
        "budget machine must be given for quantity 'latency_us' and for no other, "
        f"got {self.machine!r} for {self.quantity!r}"
      )

  @property
  def overhead(self) -> int:
    """`overhead_bytes`, which must be known.

    Raises:
      ValueError: it is not.
    """
    if self.overhead_bytes is None:
      raise ValueError("overhead_bytes of a budget of file_bytes must be measured first, got None")
    return self.overhead_bytes


def measure(budget: Budget, bits: Bits, specs: LayerSpecs) -> Float[Array, ""]:
  """Value of the budgeted quantity at learned bits, in the quantity's unit; differentiable.

  Of bits between levels, and for a file without the bits that fill up its rows' last bytes;
  `hetjax.learn.prices` counts levels to the last byte.
  """
  if budget.quantity == "mean_bits_params":
    return mean_bits(bits, specs, "params")
  if budget.quantity == "mean_bits_macs":
    return mean_bits(bits, specs, "macs")
  if budget.quantity == "file_bytes":
    return total_bits(bits, specs, "params") / 8.0 + budget.overhead
  return budget.machine.microseconds(network_cycles(bits, specs, budget.machine))


def unit(budget: Budget, specs: LayerSpecs) -> float:
  """What about one bit more for every channel costs, so that one rate serves every quantity.

  One bit for mean bits; bytes of one bit per weight; of a latency, what lies between all channels
  at their palettes' ends, per bit between those.
  """
  if budget.quantity == "file_bytes":
    return sum(s.weights for s in specs.values()) / 8.0
  if budget.quantity != "latency_us":
    return 1.0
  cycles = 0.0
  for spec in specs.values():
    if len(spec.palette.levels) > 1:
      costs = channel_costs(spec, budget.machine)
      span = spec.palette.pmax - spec.palette.pmin
      cycles += spec.in_channels * (costs[-1] - costs[0]) / span
  return budget.machine.microseconds(cycles) if cycles > 0 else 1.0  # all levels may cost the same


def ramped_limit(start: Scalar, limit: Scalar, fraction_done: Scalar, ramp: float) -> Scalar:
  """Limit now: linear from `start` to `limit` over the first `ramp` of the phase, then `limit`.

  A start that already meets the limit does not ramp: the limit holds from the beginning.

  Args:
    start: Value of the quantity before the first step.
    limit: Final limit.
    fraction_done: Steps done over steps of the phase, 0 to 1.
    ramp: Fraction of the phase over which to ramp; a Python float.
  """
  left = jnp.clip(1.0 - fraction_done / ramp, 0.0, 1.0) if ramp > 0 else 0.0
  return limit + left * jnp.maximum(start - limit, 0.0)


def excess(
  budget: Budget, value: Scalar, start: Scalar, fraction_done: Scalar, specs: LayerSpecs
) -> Float[Array, ""]:
  """How far the quantity is above its limit of now, in units of `unit`; negative below.

  Args:
    budget: The budget.
    value: `measure` at the step's bits.
    start: `measure` before the first step.
    fraction_done: Steps done over steps of the phase.
    specs: The model's quantized layers.
  """
  now = ramped_limit(start, budget.limit, fraction_done, budget.ramp_fraction)
  return (value - now) / unit(budget, specs)


def penalty(
  budget: Budget, multiplier: Scalar, over: Scalar, value: Scalar, specs: LayerSpecs
) -> Any:
  """Term of the loss: `multiplier * exp(damping * excess) * value / unit`.

  Args:
    budget: The budget.
    multiplier: Its multiplier.
    over: `excess`, which counts as a constant.
    value: `measure`, through which gradients reach the bits.
    specs: The model's quantized layers.
  """
  damping = jnp.exp(budget.damping * _counted(jax.lax.stop_gradient(over)))
  return multiplier * damping * value / unit(budget, specs)


def step_multiplier(budget: Budget, multiplier: Scalar, over: Scalar) -> Float[Array, ""]:
  """One step of dual ascent, `multiplier * exp(rate * excess)`, from `LEAST` to `LARGEST`."""
  return jnp.clip(multiplier * jnp.exp(budget.rate * _counted(over)), LEAST, LARGEST)


def _counted(over: Scalar) -> Float[Array, ""]:
  return jnp.clip(over, -MOST_EXCESS, MOST_EXCESS)
