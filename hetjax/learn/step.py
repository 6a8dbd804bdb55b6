"""Training state and the one train step that serves every phase."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from hetjax.core.layers import LayerSpecs
from hetjax.core.precision import learned_bits, mean_bits
from hetjax.learn import budget as budgets
from hetjax.learn import regularizers
from hetjax.learn.distillation import Distillation, distilled_loss, teacher_logits
from hetjax.learn.freezing import freeze
from hetjax.learn.optimizer import OptimizerConfig, make_optimizer
from hetjax.nn.quantized import MODES, NOISE_MODES


@dataclasses.dataclass(frozen=True)
class PhaseConfig:
  """One phase of training.

  Attributes:
    name: "float", "search" or "finetune"; names its checkpoints and metrics.
    mode: Mode of the layers, see `nn.quantized`.
    steps: Optimizer steps.
    optimizer: Learning rates.
    label_smoothing: Of the cross-entropy.
    regularizers: Penalties on the learned bits (search only), summed by name with their weights.
    budget: Budget held by an adaptive multiplier (search only), or None.
    distillation: What a teacher adds to the loss, or None.
    granularity: "channel", or "layer" to learn one precision for all channels of a layer (search
      only).
    freeze_fraction: Last part of the search in which channels come to rest on levels, see
      `learn.freezing`; None freezes none.
    norm_batches: Batches over which batch norms are re-estimated before finetuning; None for 50.
  """

  name: str
  mode: str
  steps: int
  optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
  label_smoothing: float = 0.05
  regularizers: tuple[regularizers.RegularizerConfig, ...] = ()
  budget: budgets.Budget | None = None
  distillation: Distillation | None = None
  granularity: str = "channel"
  freeze_fraction: float | None = None
  norm_batches: int | None = None

  def __post_init__(self):
    if self.mode not in MODES:
      raise ValueError(f"mode of phase {self.name!r} must be one of {MODES}, got {self.mode!r}")
    if not self.learns_bits:
      for field, unset in (("granularity", "channel"), ("freeze_fraction", None)):
        if getattr(self, field) != unset:
          raise ValueError(f"phase {self.name!r} learns no bits: {field} needs a noise mode")
    if self.freeze_fraction is not None and not 0 < self.freeze_fraction <= 1:
      raise ValueError(f"freeze_fraction must be in (0, 1], got {self.freeze_fraction}")
    if self.norm_batches is not None and (self.mode != "quantized" or self.norm_batches < 0):
      raise ValueError(
        f"norm_batches must not be negative and is for mode 'quantized', got {self.norm_batches} "
        f"for mode {self.mode!r}"
      )
    if self.granularity not in ("channel", "layer"):
      raise ValueError(f"granularity must be 'channel' or 'layer', got {self.granularity!r}")
    if self.steps < 1:
      raise ValueError(f"steps of phase {self.name!r} must be positive, got {self.steps}")
    if not self.learns_bits and (self.regularizers or self.budget):
      raise ValueError(
        f"phase {self.name!r} learns no bits: regularizers and budget need a noise mode"
      )

  @property
  def learns_bits(self) -> bool:
    """Whether precisions are learned, under noise."""
    return self.mode in NOISE_MODES


@flax.struct.dataclass
class TrainState:
  """All that changes during a phase; the data and the noise follow from `step` and the seed.

  Attributes:
    step: Steps done in this phase, int32.
    params: Linen `params`.
    batch_stats: Linen `batch_stats` (may be empty).
    precision: Learned s per layer.
    assignment: Assigned bits per layer (empty before assignment).
    opt_state: Optimizer state.
    multiplier: The budget's Lagrange multiplier, f32.
    budget_start: The budgeted quantity at the phase's first step, where its ramp starts, f32.
  """

  step: Int[Array, ""]
  params: Any
  batch_stats: Any
  precision: Any
  assignment: Any
  opt_state: Any
  multiplier: Float[Array, ""]
  budget_start: Float[Array, ""]

  @property
  def variables(self) -> dict[str, Any]:
    """The model's variables, without empty collections."""
    all_ = {
      "params": self.params,
      "batch_stats": self.batch_stats,
      "precision": self.precision,
      "assignment": self.assignment,
    }
    return {k: v for k, v in all_.items() if v}


def initial_state(
  config: PhaseConfig, variables: Mapping[str, Any], specs: LayerSpecs
) -> TrainState:
  """State before the first step of a phase that starts from `variables`."""
  trainable = {"params": variables["params"], "precision": variables.get("precision", {})}
  start = jnp.float32(0.0)
  if config.budget is not None:
    bits = learned_bits(trainable["precision"], specs)
    start = jnp.asarray(budgets.measure(config.budget, bits, specs), jnp.float32)
  return TrainState(
    step=jnp.int32(0),
    params=trainable["params"],
    batch_stats=variables.get("batch_stats", {}),
    precision=trainable["precision"],
    assignment=variables.get("assignment", {}),
    opt_state=make_optimizer(config.optimizer, config.steps).init(trainable),
    multiplier=jnp.float32(0.0),
    budget_start=start,
  )


def bits_penalty(config: PhaseConfig, precision: Any, state: TrainState, specs: LayerSpecs):
  """Penalty on the learned bits, and what of it is worth logging."""
  bits = learned_bits(precision, specs)
  penalty, terms = regularizers.total(config.regularizers, bits, specs)
  logs = {f"penalty/{k}": v for k, v in terms.items()}
  logs["bits_params"] = mean_bits(bits, specs, "params")
  logs["bits_macs"] = mean_bits(bits, specs, "macs")
  if config.budget is not None:
    value = budgets.measure(config.budget, bits, specs)
    done = (state.step + 1) / config.steps
    over = budgets.excess(config.budget, value, state.budget_start, done, specs)
    penalty = penalty + budgets.penalty(config.budget, state.multiplier, over, value, specs)
    logs |= {"budget": value, "excess": over}
  return penalty, logs


def make_train_step(
  model: nn.Module,
  config: PhaseConfig,
  specs: LayerSpecs,
  teacher: Mapping[str, Any] | None = None,
) -> Callable[[TrainState, Mapping[str, Array], jax.Array], tuple[TrainState, dict[str, Array]]]:
  """The jitted step `(state, batch, phase key) -> (state, metrics)`; it consumes its state.

  Randomness is `fold_in(key, step)`, so a resumed run draws what an undisturbed one would have.

  Args:
    model: The network.
    config: The phase.
    specs: The model's quantized layers.
    teacher: Variables of the float network, for a phase that distils and for no other.

  Raises:
    ValueError: the phase distils and there is no teacher, or the other way round.
  """
  if (config.distillation is None) != (teacher is None):
    raise ValueError(
      f"phase {config.name!r} with distillation {config.distillation} was "
      f"{'not given a' if teacher is None else 'given a'} teacher"
    )
  optimizer = make_optimizer(config.optimizer, config.steps)
  searching = config.learns_bits

  def loss_fn(trainable, state, batch, key, teacher):
    variables = {**state.variables, "params": trainable["params"]}
    if searching:
      variables["precision"] = trainable["precision"]
    logits, updated = model.apply(
      variables,
      batch["input"],
      mode=config.mode,
      train=True,
      mutable=["batch_stats"],
      rngs={"noise": key},
    )
    if logits.shape[:-1] != batch["label"].shape:
      raise ValueError(
        f"a model must answer once per label: labels have shape {batch['label'].shape}, "
        f"the logits of {type(model).__name__} {logits.shape}"
      )
    targets = optax.smooth_labels(
      jax.nn.one_hot(batch["label"], logits.shape[-1]), config.label_smoothing
    )
    task = jnp.mean(optax.softmax_cross_entropy(logits, targets))
    logs = {"loss": task, "accuracy": jnp.mean(jnp.argmax(logits, -1) == batch["label"])}
    if config.distillation is not None:
      task = distilled_loss(
        config.distillation, task, logits, teacher_logits(model, teacher, batch["input"])
      )
      logs["distilled_loss"] = task
    penalty = 0.0
    if searching:
      penalty, extra = bits_penalty(config, trainable["precision"], state, specs)
      logs.update(extra)
    return task + penalty, (updated.get("batch_stats", {}), logs)

  def step(state, batch, key, teacher=None):
    trainable = {"params": state.params, "precision": state.precision}
    key = jax.random.fold_in(key, state.step)
    grads, (batch_stats, logs) = jax.grad(loss_fn, has_aux=True)(
      trainable, state, batch, key, teacher
    )
    if config.granularity == "layer":
      # Channels that start alike and get one gradient stay alike.
      share = lambda g: jnp.broadcast_to(jnp.mean(g), g.shape)
      grads = {**grads, "precision": jax.tree.map(share, grads["precision"])}
    updates, opt_state = optimizer.update(grads, state.opt_state, trainable)
    trainable = optax.apply_updates(trainable, updates)
    if config.freeze_fraction is not None:
      done = (state.step + 1) / config.steps
      trainable["precision"] = freeze(trainable["precision"], specs, done, config.freeze_fraction)
    multiplier = state.multiplier
    if config.budget is not None:
      multiplier = budgets.step_multiplier(config.budget, multiplier, logs["excess"])
      logs["multiplier"] = multiplier
    new = state.replace(
      step=state.step + 1,
      params=trainable["params"],
      batch_stats=batch_stats,
      precision=trainable["precision"],
      opt_state=opt_state,
      multiplier=multiplier,
    )
    return new, logs

  compiled = jax.jit(step, donate_argnums=0)
  if teacher is None:
    return compiled
  # An argument: what a function closes over becomes a constant of its program.
  teacher = jax.tree.map(jnp.asarray, dict(teacher))
  return lambda state, batch, key: compiled(state, batch, key, teacher)
