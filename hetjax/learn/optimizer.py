"""One optimizer per phase: weights, scales, precisions and the rest each by their own rule."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import optax

WEIGHTS, SCALES, PRECISION, OTHER = "weights", "scales", "precision", "other"


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """Learning rates of one phase.

  Attributes:
    learning_rate: Peak rate of kernels, and of biases, norms and the like.
    other_rate: Peak rate of the latter; None for `learning_rate`. Kernels are kept in grid units
      after the float phase, some ten times what they were in a layer of a hundred inputs, and need
      a rate in proportion, the others do not.
    scale_rate: Adam rate of log alpha and log beta; 0 freezes them (float phase).
    precision_rate: Adam rate of s, without weight decay; 0 freezes it. It stays level and drops to
      a fifth for the last fifth of the phase.
    weight_decay: On kernels only, decoupled.
    warmup_steps: Steps of linear warm-up of every rate, followed by a cosine for all but s.
    rule: "adam", or "sgd" with Nesterov momentum 0.9, for kernels, biases and norms.
    end_fraction: Of the peak rates, what the cosine ends at: more than 0 in a phase whose weights
      another one goes on with, 1 for level rates; None for 0.
  """

  learning_rate: float = 2e-3
  scale_rate: float = 0.0
  precision_rate: float = 0.0
  weight_decay: float = 0.0
  warmup_steps: int = 100
  rule: str = "adam"
  end_fraction: float | None = None
  other_rate: float | None = None

  def __post_init__(self):
    if self.end_fraction is not None and not 0 <= self.end_fraction <= 1:
      raise ValueError(f"end_fraction must be in [0, 1], got {self.end_fraction}")
    if self.rule not in ("adam", "sgd"):
      raise ValueError(f"rule must be 'adam' or 'sgd', got {self.rule!r}")


def in_log_space(inner: optax.GradientTransformation) -> optax.GradientTransformation:
  """Runs `inner` on the logarithm of positive parameters, which are themselves stored.

  A step multiplies a parameter by the exponential of inner's update, so it stays positive and rates
  are relative. Stored as they are, scales reach the packed file bit for bit as training used them.
  """

  def init(params):
    return inner.init(jax.tree.map(jnp.log, params))

  def update(updates, state, params=None):
    grads = jax.tree.map(lambda g, p: g * p, updates, params)
    steps, state = inner.update(grads, state, jax.tree.map(jnp.log, params))
    return jax.tree.map(lambda u, p: p * jnp.expm1(u), steps, params), state

  return optax.GradientTransformation(init, update)


def _flat(inner: optax.GradientTransformation) -> optax.GradientTransformation:
  """Runs `inner` on all leaves as one vector: a layer holds few, and each dispatch costs time."""
  flat = optax.flatten(inner)
  of = lambda tree: flat if jax.tree.leaves(tree) else inner  # nothing cannot be concatenated

  def update(updates, state, params=None):
    return of(updates).update(updates, state, params)

  return optax.GradientTransformation(lambda params: of(params).init(params), update)


def label(path: tuple, _leaf) -> str:
  """Group of a trainable leaf at `path` of {"params": ..., "precision": ...}."""
  keys = [getattr(entry, "key", entry) for entry in path]
  if keys[0] == "precision":
    return PRECISION
  if keys[-1] in ("alpha", "beta"):
    return SCALES
  return WEIGHTS if keys[-1] == "kernel" else OTHER


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
  """The optimizer of a phase of `steps` steps over {"params": ..., "precision": ...}."""
  warmup = max(1, min(config.warmup_steps, steps // 2))
  ramp = optax.linear_schedule(1.0 / warmup, 1.0, warmup)

  def cosine(rate):
    decay = optax.cosine_decay_schedule(rate, max(1, steps), config.end_fraction or 0.0)
    return lambda count: decay(count) * ramp(count)

  def level(rate):
    return lambda count: rate * ramp(count) * jnp.where(count < 0.8 * steps, 1.0, 0.2)

  def body(rate, decay=0.0):
    rules = {"adam": optax.scale_by_adam(), "sgd": optax.trace(0.9, nesterov=True)}
    parts = [rules[config.rule]]
    if decay:
      parts.append(optax.add_decayed_weights(decay))
    return optax.chain(*parts, optax.scale_by_learning_rate(cosine(rate)))

  other = config.learning_rate if config.other_rate is None else config.other_rate
  frozen = optax.set_to_zero()
  adam = lambda rate: _flat(optax.adam(rate))
  scales = in_log_space(adam(cosine(config.scale_rate))) if config.scale_rate else frozen
  precision = adam(level(config.precision_rate)) if config.precision_rate else frozen
  return optax.multi_transform(
    {
      WEIGHTS: body(config.learning_rate, config.weight_decay),
      OTHER: body(other),
      SCALES: scales,
      PRECISION: precision,
    },
    lambda tree: jax.tree_util.tree_map_with_path(label, tree),
  )
