"""What a step of each phase of training costs, relative to the float step of the same network."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hetjax import models
from hetjax import nn as hnn
from hetjax.bench.rows import Row, number
from hetjax.bench.timing import interleaved
from hetjax.core import Assignment
from hetjax.learn.budget import Budget
from hetjax.learn.calibrate import calibrate
from hetjax.learn.optimizer import OptimizerConfig
from hetjax.learn.phase import PhaseConfig
from hetjax.learn.step import initial_state, make_train_step
from hetjax.nn.packing import assignment_collection
from hetjax.report import Column

COLUMNS = (
  Column("network", "network"),
  Column("threads", "threads"),
  Column("phase", "phase"),
  Column("milliseconds", "ms a step", number),
  Column("low", "25 %", number),
  Column("high", "75 %", number),
  Column("over_float", "of the float step", lambda v: f"{v:.2f}x"),
  Column("gmacs", "GMAC/s", number),
  Column("megabytes", "MB a step", number),
  Column("compile_seconds", "compiling s", number),
)
LEVEL = 2  # of all channels in the finetune step, whose cost no level changes


@dataclasses.dataclass(frozen=True)
class Workload:
  """A network and its batch.

  Attributes:
    name: In tables.
    model: A name of `models.MODELS`.
    config: Of the model.
    input: Shape of a batch.
  """

  name: str
  model: str
  config: Mapping[str, Any]
  input: tuple[int, ...]


WORKLOADS = (
  Workload("ResNet-8 24-48-96, 28x28", "resnet8",
           {"widths": (24, 48, 96), "stem": "strided"}, (128, 28, 28, 1)),
  Workload("ResNet-20 16-32-64, 28x28", "resnet20", {}, (128, 28, 28, 1)),
  Workload("MobileNetV2 x0.5, 28x28", "mobilenet_v2",
           {"classes": 10, "width": 0.5, "stem_strides": 1, "last_features": 256,
            "stages": ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 2, 2), (6, 64, 2, 1))},
           (64, 28, 28, 1)),
  Workload("ViT 96 x 4, 28x28", "vit", {"width": 96, "depth": 4}, (64, 28, 28, 1)),
)  # fmt: skip
PHASES = (
  PhaseConfig("float", "float", 100),
  PhaseConfig(
    "search",
    "noise",
    100,
    OptimizerConfig(scale_rate=1e-3, precision_rate=1e-2),
    budget=Budget("mean_bits_params", 2.0),
  ),
  PhaseConfig("finetune", "quantized", 100, OptimizerConfig(scale_rate=1e-3)),
)


class _Step:
  """A compiled step that goes on from its own state."""

  def __init__(self, compiled: Callable, state: Any, batch: Mapping[str, Any]):
    self._compiled, self._state, self._batch = compiled, state, batch
    self._key = jax.random.key(0)

  def __call__(self) -> Any:
    self._state, _ = self._compiled(self._state, self._batch, self._key)
    return self._state


def _starts(model, specs, images) -> dict[str, dict[str, Any]]:
  """Variables that each phase starts from."""
  initial = dict(model.init(jax.random.key(0), images[:1], mode="float"))
  fixed = {k: v for k, v in initial.items() if k != "precision"}
  fixed["assignment"] = assignment_collection(Assignment.uniform(specs, LEVEL), specs)
  return {
    "float": initial,
    "search": calibrate(model, initial, images, specs),
    "finetune": calibrate(model, fixed, images, specs),
  }


def steps(workload: Workload) -> tuple[dict[str, Callable[[], Any]], dict[str, Row], int]:
  """The steps of all phases, what is known of each without running it, and its forward MACs.

  "megabytes" are XLA's account of a step: state, batch and temporaries.
  """
  model = models.create(workload.model, **workload.config)
  rng = np.random.default_rng(0)
  batch = {
    "input": jnp.asarray(rng.normal(size=workload.input), jnp.float32),
    "label": jnp.asarray(rng.integers(0, model.classes, workload.input[0]), jnp.int32),
  }
  specs = hnn.layer_specs(model, jax.ShapeDtypeStruct((1, *workload.input[1:]), jnp.float32))
  starts = _starts(model, specs, batch["input"])
  calls, known = {}, {}
  for phase in PHASES:
    # The step consumes its state, and phases share variables.
    state = jax.tree.map(
      lambda leaf: jnp.array(leaf, copy=True), initial_state(phase, starts[phase.name], specs)
    )
    begun = time.perf_counter()
    step = make_train_step(model, phase, specs)
    compiled = step.lower(state, batch, jax.random.key(0)).compile()
    seconds = time.perf_counter() - begun
    memory = compiled.memory_analysis()
    size = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    calls[phase.name] = _Step(compiled, state, batch)
    known[phase.name] = {"megabytes": size / 1e6, "compile_seconds": seconds}
  return calls, known, workload.input[0] * sum(s.macs for s in specs.values())


def measure(threads: int, *, seconds: float, specs: Sequence[Workload] = WORKLOADS) -> list[Row]:
  """Rows of every network's phases, whose steps take turns.

  "gmacs" counts three passes, forward and both gradients.
  """
  rows = []
  for workload in specs:
    calls, known, macs = steps(workload)
    times = interleaved(calls, seconds=seconds, least=5)
    for phase, timing in times.items():
      rows.append(
        {
          "network": workload.name,
          "threads": threads,
          "phase": phase,
          "milliseconds": 1e3 * timing.median,
          "low": 1e3 * timing.low,
          "high": 1e3 * timing.high,
          "over_float": timing.median / times["float"].median,
          "gmacs": 3 * macs / timing.median / 1e9,
          **known[phase],
        }
      )
  return rows
