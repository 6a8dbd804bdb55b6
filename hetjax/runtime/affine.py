"""Scales and shifts per channel, folded into a layer's own.

Folding is done once, in float64, and rounded to float32 at the end: scale' = scale * g and
bias' = bias * g + b. The accumulator has no part in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from hetjax.runtime.graph import Node, Value

Step = tuple[np.ndarray, np.ndarray]  # y -> y * gain + shift, float64 scalars or [n]


@dataclasses.dataclass(frozen=True, eq=False)
class Affine:
  """A layer's scale and bias with the steps folded into them.

  Attributes:
    scale: The layer's own, float32[n].
    bias: The layer's own.
    folded: scale and bias after the steps, float64[n] each, or None before the first step.
  """

  scale: Value
  bias: Value
  folded: Step | None = None

  @classmethod
  def of(cls, scale: Value, bias: Value) -> Affine:
    """Scale and bias without steps."""
    return cls(scale, bias)

  def can_take(self, step: Step) -> bool:
    """Whether the layer's scale and bias are known and stay finite float32 numbers."""
    if not (self.scale.is_constant and self.bias.is_constant):
      return False
    with np.errstate(over="ignore", invalid="ignore"):
      return all(np.isfinite(v.astype(np.float32)).all() for v in self._after(step))

  def then(self, step: Step) -> Affine:
    """With one more step folded in."""
    return dataclasses.replace(self, folded=self._after(step))

  def values(self) -> tuple[Value, Value]:
    """Scale and bias to run with."""
    if self.folded is None:
      return self.scale, self.bias
    scale, bias = (Value.of(v.astype(np.float32)) for v in self.folded)
    return scale, bias

  def _after(self, step: Step) -> Step:
    gain, shift = step
    scale, bias = self.folded or (_float64(self.scale), _float64(self.bias))
    with np.errstate(over="ignore", invalid="ignore"):
      return scale * gain, bias * gain + shift


def channel_step(node: Node, value: Value, producers: Mapping[Value, Node]) -> Step | None:
  """What `node` does to `value` if that is a known scale and shift per channel, else None."""
  name, inputs = node.primitive.name, node.inputs
  if name == "neg":
    return np.float64(-1), np.float64(0)
  if name in ("copy", "convert_element_type"):  # the caller knows that the type stays
    return np.float64(1), np.float64(0)
  if name not in ("add", "sub", "mul", "div"):
    return None
  other = inputs[1] if inputs[0] is value else inputs[0]
  vector = _channel_vector(other, value, producers)
  if vector is None or not np.isfinite(vector).all():
    return None
  zero, one = np.zeros_like(vector), np.ones_like(vector)
  if name == "mul":
    return vector, zero
  if name == "add":
    return one, vector
  if name == "sub":
    return (one, -vector) if inputs[0] is value else (-one, vector)
  return (1 / vector, zero) if inputs[0] is value and vector.all() else None


def is_scalar(value: Value, number: float) -> bool:
  """Whether `value` is known to be that number."""
  return value.is_constant and value.shape == () and float(np.asarray(value.constant)) == number


def _float64(value: Value) -> np.ndarray:
  return np.asarray(value.constant).astype(np.float64)


def _channel_vector(
  value: Value, like: Value, producers: Mapping[Value, Node]
) -> np.ndarray | None:
  """float64 per channel of `like` (last axis), or a scalar, if `value` is known to be that."""
  shape: tuple[Any, ...] = value.shape
  node = producers.get(value)
  if node is not None and node.primitive.name == "broadcast_in_dim":
    axes = node.parameters["broadcast_dimensions"]
    value, rank = node.inputs[0], len(shape)
    shape = tuple(value.shape[axes.index(i)] if i in axes else 1 for i in range(rank))
  channels = like.shape[-1] if like.shape else 1
  if not value.is_constant or any(size != 1 for size in shape[:-1]):
    return None
  if shape and shape[-1] not in (1, channels):
    return None
  vector = _float64(value).reshape(-1)
  return vector if shape and shape[-1] == channels else vector.reshape(())
