"""A whole training run as data, and its execution: float, then uniform or heterogeneous levels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hetjax import models
from hetjax import nn as hnn
from hetjax.data import Dataset, TextDataset, load_dataset, training_batches
from hetjax.hardware import Target, load_target
from hetjax.learn import loop, phases
from hetjax.learn.budget import Budget
from hetjax.learn.distillation import Distillation
from hetjax.learn.loop import LoopConfig
from hetjax.learn.optimizer import OptimizerConfig
from hetjax.learn.phase import PhaseConfig
from hetjax.learn.regularizers import RegularizerConfig
from hetjax.nn.quantized import NOISE_MODES

# Fields of a phase besides steps and those of its optimizer.
_OPTIONS = {
  "float": ("label_smoothing", "distillation"),
  "search": ("label_smoothing", "distillation", "freeze_fraction", "noise_ramp_fraction"),
  "finetune": ("label_smoothing", "distillation", "norm_batches", "gradient_scaling"),
}


@dataclasses.dataclass(frozen=True)
class Recipe:
  """A training run.

  Attributes:
    data: Name of the data set.
    model: Name of the model, see `models.MODELS`.
    model_config: Overrides of the model's attributes; input-dependent ones are added from the data.
    batch_size: Inputs per step.
    seed: Of initialization, data order, augmentation and noise.
    train: The float phase.
    search: The phase that learns precisions.
    finetune: The phase at fixed levels.
    budget: What the network may cost; the search is drawn to it, the assignment held to it.
    target: The hardware target whose granules the assignment obeys, or None.
    log_every: Steps between metrics.
    checkpoint_every: Steps between checkpoints.
    data_options: Arguments of the data set's loading function.
  """

  data: str
  model: str
  model_config: Mapping[str, Any]
  batch_size: int
  seed: int
  train: PhaseConfig
  search: PhaseConfig
  finetune: PhaseConfig
  budget: Budget
  target: Target | None = None
  log_every: int = 50
  checkpoint_every: int = 500
  data_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def recipe_of(config: Mapping[str, Any]) -> Recipe:
  """A `Recipe` from a plain nested mapping, as `experiments/configs` hold it.

  Raises:
    ValueError: a value is out of range.
    TypeError: a field is unknown or missing.
  """
  fields = {f.name: _required(f) for f in dataclasses.fields(Recipe)}
  _check_fields("recipe", config, fields)
  config = {k: dict(v) if isinstance(v, Mapping) else v for k, v in config.items()}
  train, search, finetune = (config.pop(k) for k in ("train", "search", "finetune"))
  budget = _budget(config.pop("budget"))
  if isinstance(config.get("target"), str):
    config["target"] = load_target(config["target"])
  regularizers = tuple(_regularizer(r) for r in search.pop("regularizers", ()))
  mode = search.pop("mode", "noise")
  if mode not in NOISE_MODES:
    raise ValueError(f"search mode must be one of {NOISE_MODES}, got {mode!r}")
  return Recipe(
    **config,
    budget=budget,
    train=_phase("float", "float", train),
    search=_phase("search", mode, search, budget=budget, regularizers=regularizers),
    finetune=_phase("finetune", "quantized", finetune),
  )


def _budget(fields: Mapping[str, Any]) -> Budget:
  """A budget; its `machine` may be a target's name or file."""
  known = {f.name: _required(f) for f in dataclasses.fields(Budget)}
  del known["overhead_bytes"]  # is measured
  _check_fields("budget", fields, known)
  fields = dict(fields)
  if isinstance(fields.get("machine"), str):
    fields["machine"] = load_target(fields["machine"])
  return Budget(**fields)


def _regularizer(fields: Mapping[str, Any]) -> RegularizerConfig:
  """A regularizer; a `target` among its arguments may be a target's name or file."""
  fields = dict(fields)
  kwargs = dict(fields.get("kwargs", {}))
  if isinstance(kwargs.get("target"), str):
    kwargs["target"] = load_target(kwargs["target"])
  return RegularizerConfig(**fields | {"kwargs": kwargs})


def _required(field: dataclasses.Field) -> bool:
  return field.default is field.default_factory is dataclasses.MISSING


def _check_fields(what: str, have: Mapping[str, Any], known: Mapping[str, bool]) -> None:
  """Refuses fields of `have` not in `known`, and the lack of those that are required there."""
  unknown = sorted(set(have) - set(known))
  if unknown:
    raise TypeError(f"{what} has unknown fields {unknown}; known: {sorted(known)}")
  missing = sorted(k for k, required in known.items() if required and k not in have)
  if missing:
    raise TypeError(f"{what} lacks fields {missing}")


def _phase(name: str, mode: str, fields: Mapping[str, Any], **more: Any) -> PhaseConfig:
  fields = dict(fields)
  known = dict.fromkeys((f.name for f in dataclasses.fields(OptimizerConfig)), False)
  optional = dict.fromkeys(_OPTIONS[name], False)
  _check_fields(f"phase {name!r}", fields, known | {"steps": True} | optional)
  own = {k: fields.pop(k) for k in ("steps", *optional) if k in fields}
  if own.get("distillation") is not None:
    known = dict.fromkeys((f.name for f in dataclasses.fields(Distillation)), False)
    _check_fields(f"distillation of phase {name!r}", own["distillation"], known)
    own["distillation"] = Distillation(**own["distillation"])
  return PhaseConfig(name=name, mode=mode, optimizer=OptimizerConfig(**fields), **own, **more)


@dataclasses.dataclass(frozen=True, eq=False)
class Experiment:
  """A recipe with its data and network made.

  Attributes:
    recipe: What to do.
    dataset: What is learned from.
    run: Network, layers and batches, see `phases.Run`.
  """

  recipe: Recipe
  dataset: Dataset | TextDataset
  run: phases.Run

  @classmethod
  def create(cls, recipe: Recipe, workdir: str | None = None, quiet: bool = False) -> Experiment:
    """Loads the data and makes the network; trains nothing yet."""
    dataset = load_dataset(recipe.data, **recipe.data_options)
    model = models.create(recipe.model, **dataset.model_fields, **recipe.model_config)
    dtype = getattr(model, "input_dtype", jnp.float32)
    example = jax.ShapeDtypeStruct((1, *dataset.input_shape), dtype)
    run = phases.Run(
      model=model,
      specs=hnn.layer_specs(model, example),
      batches=training_batches(dataset, recipe.batch_size, recipe.seed),
      loop=LoopConfig(recipe.seed, recipe.log_every, recipe.checkpoint_every),
      workdir=workdir,
      settings=_settings(recipe, dataset),
      quiet=quiet,
    )
    return cls(recipe, dataset, run)

  def train_float(self) -> dict[str, Any]:
    """Variables of the trained float network."""
    return phases.train_float(self.run, self.recipe.train).variables

  def logits(self, variables: Mapping[str, Any], mode: str, split: str = "test") -> np.ndarray:
    """What the network answers to a part of the data, f32[n, ..., classes]."""
    return loop.logits(self.run.model, variables, self.dataset.inputs(split), mode)

  def predict(self, variables: Mapping[str, Any], mode: str, split: str = "test") -> np.ndarray:
    """Predicted classes of a part of the data, int[n, ...]."""
    return loop.predictions(self.logits(variables, mode, split))

  def accuracy(self, predicted: np.ndarray, split: str = "test") -> float:
    """Accuracy on a part of the data, in percent."""
    return loop.accuracy(predicted, self.dataset.labels(split))

  def with_limit(self, limit: float) -> Experiment:
    """The same experiment with another limit of its budget, keeping nothing on disk."""
    recipe = self._with_budget(limit=limit)
    run = dataclasses.replace(self.run, workdir=None, settings=_settings(recipe, self.dataset))
    return dataclasses.replace(self, recipe=recipe, run=run)

  def with_overhead(self, overhead_bytes: int) -> Experiment:
    """The same run, its budget of a file's bytes knowing what the file holds besides weights."""
    return dataclasses.replace(self, recipe=self._with_budget(overhead_bytes=overhead_bytes))

  def _with_budget(self, **changes: Any) -> Recipe:
    budget = dataclasses.replace(self.recipe.budget, **changes)
    search = dataclasses.replace(self.recipe.search, budget=budget)
    return dataclasses.replace(self.recipe, budget=budget, search=search)

  def in_workdir(self, workdir: str) -> Experiment:
    """The same experiment with its checkpoints and metrics elsewhere."""
    return dataclasses.replace(self, run=dataclasses.replace(self.run, workdir=workdir))


def _settings(recipe: Recipe, dataset: Dataset | TextDataset) -> dict[str, Any]:
  """What a resumed run must share with the one it resumes; intervals may change."""
  settings = plain(recipe) | {"dataset": dataset.name}
  for field in ("log_every", "checkpoint_every"):
    del settings[field]
  return settings


def plain(value: Any) -> Any:
  """Configuration as JSON values; what JSON does not know is told by its text.

  Fields of dataclasses that are None are left out, so that options added later change no record.
  """
  if dataclasses.is_dataclass(value):
    fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return {name: plain(field) for name, field in fields.items() if field is not None}
  if isinstance(value, Mapping):
    return {str(k): plain(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [plain(v) for v in value]
  return value if value is None or isinstance(value, bool | int | float | str) else str(value)
