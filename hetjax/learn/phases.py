"""The three phases - search, assign, finetune - after float training, each from its predecessor."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

from hetjax.core import Assignment
from hetjax.core.files import write_atomically
from hetjax.core.layers import LayerSpecs
from hetjax.core.precision import learned_bits
from hetjax.data import Batches, TextBatches
from hetjax.learn.assign import assign, assignment_report
from hetjax.learn.budget import Budget
from hetjax.learn.calibrate import calibrate
from hetjax.learn.checkpoint import Checkpointer
from hetjax.learn.loop import LoopConfig, reestimate_batch_stats, run_phase
from hetjax.learn.phase import PhaseConfig
from hetjax.learn.step import TrainState, initial_state
from hetjax.nn.packing import assignment_collection

CALIBRATION_STEP = 0  # calibration reads the first training batch
NORM_BATCHES = 50


@dataclasses.dataclass(frozen=True)
class Run:
  """What every phase of one training run shares.

  Attributes:
    model: The network.
    specs: Its quantized layers.
    batches: Training data.
    loop: Seed and intervals.
    workdir: Where checkpoints and metrics go, or None to keep nothing.
    settings: JSON-able settings of the run; a resume under other settings is refused.
    quiet: No progress on the terminal.
  """

  model: nn.Module
  specs: LayerSpecs
  batches: Batches | TextBatches
  loop: LoopConfig = dataclasses.field(default_factory=LoopConfig)
  workdir: str | None = None
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  quiet: bool = False

  def train(
    self, phase: PhaseConfig, start, teacher: Mapping[str, Any] | None = None
  ) -> TrainState:
    """Runs or resumes `phase`.

    Args:
      phase: What to train.
      start: Makes the variables it begins with.
      teacher: Variables of the float network; read by a phase that distils.
    """
    if phase.distillation is None:
      teacher = None
    with contextlib.ExitStack() as stack:
      checkpointer = metrics_path = None
      if self.workdir is not None:
        folder = f"{self.workdir}/checkpoints/{phase.name}"
        checkpointer = stack.enter_context(Checkpointer(folder, self.settings))
        metrics_path = f"{self.workdir}/metrics/{phase.name}.jsonl"
      return run_phase(
        self.model,
        self.specs,
        phase,
        lambda: initial_state(phase, start(), self.specs),
        self.batches,
        self.loop,
        teacher=teacher,
        checkpointer=checkpointer,
        metrics_path=metrics_path,
        quiet=self.quiet,
      )

  def example(self) -> jax.Array:
    """Inputs of the batch that calibration reads."""
    return self.batches.batch(CALIBRATION_STEP)["input"]


def train_float(run: Run, phase: PhaseConfig) -> TrainState:
  """Trains the float network from its random initialization."""

  def start():
    variables = run.model.init(jax.random.key(run.loop.seed), run.example()[:1], mode="float")
    return dict(variables)

  return run.train(phase, start)


def search(run: Run, phase: PhaseConfig, trained: Mapping[str, Any]) -> TrainState:
  """Learns precisions under noise, from float variables with a fresh `precision`."""

  def start():
    free = {k: v for k, v in trained.items() if k != "assignment"}
    return calibrate(run.model, free, run.example(), run.specs, mode=phase.mode)

  return run.train(phase, start, trained)


def assign_levels(
  run: Run,
  searched: Mapping[str, Any],
  budget: Budget | None,
  *,
  granules: Mapping[int, int] | None = None,
  whole_layers: bool = False,
) -> Assignment:
  """Levels for learned bits under a budget, by `learn.assign`.

  A run with a workdir gets `assignment.json` there: how far levels are from what was learned.
  """
  rules = {"granules": granules, "whole_layers": whole_layers}
  learned = jax.device_get(learned_bits(searched["precision"], run.specs))
  assignment = assign(learned, run.specs, budget, **rules)
  if run.workdir is not None:
    text = json.dumps(assignment_report(learned, assignment, run.specs), indent=2) + "\n"
    Path(run.workdir).mkdir(parents=True, exist_ok=True)
    write_atomically(f"{run.workdir}/assignment.json", text.encode())
  return assignment


def at_levels(
  run: Run, phase: PhaseConfig, trained: Mapping[str, Any], assignment: Assignment
) -> dict[str, Any]:
  """Variables that finetuning starts from: scales refitted to levels, batch norms re-estimated."""
  free = {k: v for k, v in trained.items() if k != "precision"}
  free["assignment"] = assignment_collection(assignment, run.specs)
  fitted = calibrate(run.model, free, run.example(), run.specs)
  batches = NORM_BATCHES if phase.norm_batches is None else phase.norm_batches
  return reestimate_batch_stats(run.model, fitted, run.batches, phase.mode, batches)


def finetune(
  run: Run,
  phase: PhaseConfig,
  trained: Mapping[str, Any],
  assignment: Assignment,
  teacher: Mapping[str, Any] | None = None,
) -> TrainState:
  """Straight-through training at fixed levels, from `at_levels`.

  Args:
    run: The run.
    phase: A phase in mode "quantized".
    trained: Variables of the search, or of the float network for a uniform assignment.
    assignment: The levels.
    teacher: Variables of the float network, if the phase distils.
  """
  return run.train(phase, lambda: at_levels(run, phase, trained, assignment), teacher)
