"""Distillation: a phase learns from the float network's outputs besides the labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class Distillation:
  """How much of the loss the teacher gives (Hinton et al., 2015, arXiv 1503.02531).

  Attributes:
    weight: Share of the teacher's term; the labels' cross-entropy has the rest.
    temperature: Divides the logits of both networks in the teacher's term, which is multiplied by
      its square so that gradients keep their size.

  Raises:
    ValueError: the weight is not in (0, 1], or the temperature not positive.
  """

  weight: float = 0.8
  temperature: float = 2.0

  def __post_init__(self):
    if not 0 < self.weight <= 1:
      raise ValueError(f"distillation weight must be in (0, 1], got {self.weight}")
    if not self.temperature > 0:
      raise ValueError(f"distillation temperature must be positive, got {self.temperature}")


def teacher_logits(
  model: nn.Module, variables: Mapping[str, Any], images: Float[Array, "b ..."]
) -> Float[Array, "b classes"]:
  """What the network answers in float mode, its norms at inference.

  Args:
    model: The network.
    variables: Of the trained float network.
    images: Of the batch.
  """
  readable = {k: variables[k] for k in ("params", "batch_stats") if k in variables}
  # A forward pass that is asked for gradients runs where training's does, which is faster.
  return jax.vjp(lambda x: model.apply(readable, x, mode="float"), images)[0]


def distilled_loss(
  config: Distillation,
  task: Float[Array, ""],
  logits: Float[Array, "b classes"],
  teacher: Float[Array, "b classes"],
) -> Float[Array, ""]:
  """`(1 - weight) task + weight T^2 KL(teacher || student)`, both softened by the temperature T."""
  soft = jax.nn.log_softmax(teacher / config.temperature)
  own = jax.nn.log_softmax(logits / config.temperature)
  divergence = jnp.mean(jnp.sum(jnp.exp(soft) * (soft - own), axis=-1))
  return (1 - config.weight) * task + config.weight * config.temperature**2 * divergence
