"""Training state and the one train step that serves every phase."""

from __future__ import annotations

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
from hetjax.learn.distillation import distilled_loss, teacher_logits
from hetjax.learn.freezing import freeze
from hetjax.learn.gradients import ramped_strength, scaled_by_rounding, shared_by_layers
from hetjax.learn.optimizer import make_optimizer
from hetjax.learn.phase import PhaseConfig


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
    multiplier=jnp.float32(0.0 if config.budget is None else budgets.INITIAL),
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
      if config.noise_ramp_fraction is not None:
        variables["precision"] = ramped_strength(
          trainable["precision"], specs, state.step, config.steps, config.noise_ramp_fraction
        )
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
      grads = {**grads, "precision": shared_by_layers(grads["precision"])}
    if config.gradient_scaling is not None:
      changed = scaled_by_rounding(
        grads["params"], state.params, state.assignment, specs, config.gradient_scaling
      )
      grads = {**grads, "params": changed}
    updates, opt_state = optimizer.update(grads, state.opt_state, trainable)
    trainable = optax.apply_updates(trainable, updates)
    if config.freeze_fraction is not None:
      trainable["precision"] = freeze(
        state.precision,
        trainable["precision"],
        specs,
        steps_done=state.step + 1,
        steps=config.steps,
        fraction=config.freeze_fraction,
      )
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
