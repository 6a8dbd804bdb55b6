"""Runs one phase: batches, steps, metrics, checkpoints; resumes bit for bit."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float, Int

from hetjax.core.layers import LayerSpecs
from hetjax.data import Batches, TextBatches, map_batches
from hetjax.learn.checkpoint import Checkpointer
from hetjax.learn.metrics import MetricsWriter, Progress
from hetjax.learn.phase import PhaseConfig
from hetjax.learn.step import TrainState, make_train_step


@dataclasses.dataclass(frozen=True)
class LoopConfig:
  """What the loop does besides stepping.

  Attributes:
    seed: Of data order, augmentation and noise.
    log_every: Steps between metrics.
    checkpoint_every: Steps between checkpoints; the last step is always saved.
  """

  seed: int = 0
  log_every: int = 50
  checkpoint_every: int = 500

  def __post_init__(self):
    if self.log_every < 1 or self.checkpoint_every < 1:
      raise ValueError(
        "log_every and checkpoint_every must be positive, got "
        f"{self.log_every} and {self.checkpoint_every}"
      )


def run_phase(
  model: nn.Module,
  specs: LayerSpecs,
  phase: PhaseConfig,
  start: Callable[[], TrainState],
  batches: Batches | TextBatches,
  loop: LoopConfig,
  *,
  teacher: Mapping[str, Any] | None = None,
  checkpointer: Checkpointer | None = None,
  metrics_path: str | None = None,
  quiet: bool = False,
) -> TrainState:
  """Trains `phase` to its end.

  Args:
    model: The network.
    specs: Its quantized layers.
    phase: What to train and how.
    start: Makes the state before the first step; called only if there is nothing to resume.
    batches: Data; batch i is a pure function of i.
    loop: Seed and intervals.
    teacher: Variables of the float network, if the phase distils.
    checkpointer: Where to save and resume, or None to keep nothing.
    metrics_path: JSONL file to log to, or None.
    quiet: No progress on the terminal.

  Returns:
    The final state.
  """
  state = None
  if checkpointer is not None and checkpointer.steps():
    shapes = jax.eval_shape(start)
    like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    state = checkpointer.restore_latest(like).state
  elif checkpointer is not None:
    state = start()
    checkpointer.save(0, state)
  else:
    state = start()
  # The step consumes its state: these must be arrays of its own, not views of the caller's.
  state = jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), state)
  first = int(state.step)
  step = make_train_step(model, phase, specs, teacher)
  key = jax.random.fold_in(jax.random.key(loop.seed), _phase_number(phase.name))
  stream = io.StringIO() if quiet else None
  with contextlib.ExitStack() as stack:
    progress = stack.enter_context(Progress(phase.steps, phase.name, start=first, stream=stream))
    data = stack.enter_context(batches.prefetch(first, phase.steps))
    metrics = None
    if metrics_path is not None:
      metrics = stack.enter_context(MetricsWriter(metrics_path, resume_step=first + 1))
    for done, batch in enumerate(data, first + 1):
      state, logs = step(state, batch, key)
      last = done == phase.steps
      logging = last or done % loop.log_every == 0
      saving = checkpointer is not None and (last or done % loop.checkpoint_every == 0)
      # Also before saving: a run must not resume from a state that is lost already.
      if (logging or saving) and not np.isfinite(logs["loss"]):
        raise FloatingPointError(f"loss of phase {phase.name!r} is {logs['loss']} at {done}")
      if logging and metrics is not None:
        metrics.write(done, logs)
      progress.update(1, loss=logs["loss"], accuracy=logs["accuracy"])
      if saving:
        checkpointer.save(done, state)
  return state


def _phase_number(name: str) -> int:
  """A stable number per phase name, so that phases draw different noise."""
  return zlib.crc32(name.encode()) & 0x7FFFFFFF


def logits(
  model: nn.Module, variables: Mapping[str, Any], inputs: np.ndarray, mode: str
) -> Float[np.ndarray, "n ... classes"]:
  """What the network answers to every one of the inputs [n, ...], its norms at inference."""
  apply = jax.jit(functools.partial(model.apply, mode=mode, train=False))
  return map_batches(functools.partial(apply, variables), inputs)


def predictions(logits: Float[np.ndarray, "n ... classes"]) -> Int[np.ndarray, "n ..."]:
  """The classes of the largest logits."""
  return np.argmax(logits, axis=-1)


def accuracy(predicted: Int[np.ndarray, "*n"], labels: Int[np.ndarray, "*n"]) -> float:
  """Share of right predictions, in percent."""
  return 100.0 * float(np.mean(predicted == labels))


def scores(
  logits: Float[np.ndarray, "n ... classes"], labels: Int[np.ndarray, "n ..."]
) -> dict[str, float]:
  """ "accuracy" in percent and "loss", the mean cross-entropy in nats, of one network."""
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  loss = float(np.mean(np.asarray(losses, np.float64)))
  return {"accuracy": accuracy(predictions(logits), labels), "loss": loss}


def reestimate_batch_stats(
  model: nn.Module,
  variables: Mapping[str, Any],
  batches: Batches | TextBatches,
  mode: str,
  steps: int,
) -> dict[str, Any]:
  """Variables whose batch norms have seen `steps` batches of training data in `mode`.

  Rounding shifts the statistics that norms collected before it; without this the first accuracy
  after assignment is lower by many points.
  """
  if not variables.get("batch_stats"):
    return dict(variables)

  @jax.jit
  def update(variables, images):
    _, new = model.apply(variables, images, mode=mode, train=True, mutable=["batch_stats"])
    return new["batch_stats"]

  variables = dict(variables)
  for index in range(steps):
    variables["batch_stats"] = update(variables, batches.batch(index)["input"])
  return variables
