"""A tiny network of every family in `hetjax.models`, with inputs for it."""

import dataclasses
import functools

import numpy as np

from hetjax import models
from hetjax import nn as hnn
from tests.shared.equality import Case

_BLOCKS = {"width": 8, "depth": 1, "heads": 2, "mlp_ratio": 2}
_ENCODER = _BLOCKS | {"classes": 3}


@dataclasses.dataclass(frozen=True)
class Tiny:
  """Name and config of a model, and the shape of its inputs without the batch."""

  name: str
  config: dict
  shape: tuple[int, ...]

  def create(self):
    return models.create(self.name, **self.config)

  def inputs(self, count: int = 8) -> np.ndarray:
    rng = np.random.default_rng(3)
    if "vocabulary" in self.config:
      return rng.integers(0, self.config["vocabulary"], (count, *self.shape), np.int32)
    return rng.normal(size=(count, *self.shape)).astype(np.float32)


TINY = {
  "bottlenecks": Tiny(
    "resnet",
    {"stage_sizes": [1, 1], "widths": [4, 6], "bottleneck": True, "classes": 3},
    (8, 8, 3),
  ),
  "mobilenet_v2": Tiny(
    "mobilenet_v2",
    {
      "stages": [[1, 8, 1, 2], [2, 8, 1, 1]],
      "width": 0.5,
      "classes": 3,
      "stem_features": 16,
      "stem_strides": 1,
      "last_features": 16,
    },
    (8, 8, 3),
  ),
  "lenet": Tiny(
    "lenet", {"features": [4, 6], "hidden": [8], "kernel": 3, "classes": 3}, (12, 14, 1)
  ),
  "pixels": Tiny("lenet", {"features": [], "hidden": [8, 6], "classes": 3}, (4, 5, 1)),
  "vectors": Tiny("transformer", _ENCODER | {"max_length": 6, "activation": "relu"}, (5, 7)),
  "tokens": Tiny("transformer", _ENCODER | {"max_length": 6, "vocabulary": 11}, (6,)),
  "language": Tiny("language_model", _BLOCKS | {"max_length": 6, "vocabulary": 11}, (6,)),
  "vit": Tiny("vit", _ENCODER | {"patch": 4}, (8, 12, 3)),
}


@functools.cache
def tiny_case(name: str) -> Case:
  """Network `name` with random variables for quantized mode; not to be written to."""
  model, inputs = TINY[name].create(), TINY[name].inputs()
  variables = models.random_variables(model, inputs, {1: 0.3, 2: 0.3, 4: 0.4})
  return Case(model, variables, hnn.layer_specs(model, inputs), inputs)
