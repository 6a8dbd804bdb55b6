"""Models by name. A packed file stores name and config; `create` makes the module again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn

from hetjax.core import Palette
from hetjax.models import resnet

MODELS: dict[str, Callable[..., nn.Module]] = {
  "resnet": resnet.ResNet,
  **{f"resnet{d}": resnet.cifar(d) for d in (8, 14, 20, 32, 44, 56)},
  "resnet18": resnet.resnet18,
  "resnet50": resnet.resnet50,
}


def create(name: str, **config: Any) -> nn.Module:
  """The Linen module of model `name`.

  Args:
    name: A key of `MODELS`.
    **config: Overrides of the module's attributes. `palette` may be a sequence of levels.

  Raises:
    ValueError: an unknown name or config field.
  """
  if name not in MODELS:
    raise ValueError(f"model must be one of {sorted(MODELS)}, got {name!r}")
  fields = {f.name for f in dataclasses.fields(resnet.ResNet)} - {"parent", "name"}
  unknown = sorted(set(config) - fields)
  if unknown:
    raise ValueError(f"model config has unknown fields {unknown}; known: {sorted(fields)}")
  if "palette" in config and not isinstance(config["palette"], Palette):
    config["palette"] = Palette(tuple(config["palette"]))
  for field in ("stage_sizes", "widths"):
    if field in config:
      config[field] = tuple(config[field])
  return MODELS[name](**config)


def config_of(model: nn.Module) -> dict[str, Any]:
  """JSON-able config that makes the same module by `create("resnet", **config)`."""
  config = {}
  for field in dataclasses.fields(model):
    if field.name in ("parent", "name"):
      continue
    value = getattr(model, field.name)
    if isinstance(value, Palette):
      value = list(value.levels)
    config[field.name] = list(value) if isinstance(value, tuple) else value
  return config
