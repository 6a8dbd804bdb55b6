"""Distillation: a phase learns from the float network's outputs besides the labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Teacher = Callable[[Array], Float[Array, "b classes"]]


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


def float_teacher(model: nn.Module, variables: Mapping[str, Any]) -> Teacher:
  """The network in float mode with the norms' statistics of training, as `images -> logits`.

  Args:
    model: The network.
    variables: Of the trained float network.
  """
  readable = {k: variables[k] for k in ("params", "batch_stats") if k in variables}

  def logits(images):
    # A forward pass that is asked for gradients runs where training's does, which is faster.
    return jax.vjp(lambda x: model.apply(readable, x, mode="float"), images)[0]

  return logits


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
