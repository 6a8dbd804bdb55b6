"""Models by name. A packed file stores name and config; `create` makes the module again.

Names are those of families, whose config holds every attribute, and of their members, which fill
some in. Every model's call takes one input, and `mode`, `train` and `implementation` as keywords.
Its property `blocks` counts the blocks that a call runs, none without a quantized layer: a file
that asks for more of them than it has layers is refused before anything is traced. A model of
other inputs than float32 has a property `input_dtype`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import flax.linen as nn

from hetjax.core import Palette
from hetjax.models import language_model, lenet, mobilenet, resnet, transformer, vit

FAMILIES: Mapping[str, type[nn.Module]] = MappingProxyType(
  {
    "resnet": resnet.ResNet,
    "mobilenet_v2": mobilenet.MobileNetV2,
    "transformer": transformer.Transformer,
    "language_model": language_model.LanguageModel,
    "vit": vit.ViT,
    "lenet": lenet.LeNet,
  }
)
MODELS: Mapping[str, Callable[..., nn.Module]] = MappingProxyType(
  {
    **FAMILIES,
    **{f"resnet{d}": resnet.cifar(d) for d in (8, 14, 20, 32, 44, 56)},
    "resnet18": resnet.resnet18,
    "resnet50": resnet.resnet50,
    "lenet_300_100": lenet.lenet_300_100,
    "transformer_small": transformer.transformer_small,
    "vit_tiny": vit.vit_tiny,
    "vit_small": vit.vit_small,
  }
)


def create(name: str, **config: Any) -> nn.Module:
  """The Linen module of model `name`.

  Args:
    name: A key of `MODELS`.
    **config: Overrides of the module's attributes. `palette` may be a sequence of levels and, where
      a network has one for each of its stages, a sequence of those.

  Raises:
    ValueError: an unknown name or config field.
  """
  if name not in MODELS:
    raise ValueError(f"model must be one of {sorted(MODELS)}, got {name!r}")
  family = getattr(MODELS[name], "func", MODELS[name])
  fields = _fields(family)
  unknown = sorted(set(config) - set(fields))
  if unknown:
    raise ValueError(f"model config has unknown fields {unknown}; known: {sorted(fields)}")
  if "palette" in config:
    config["palette"] = _palette(config["palette"])
  return MODELS[name](**{field: _frozen(value) for field, value in config.items()})


def name_of(model: nn.Module) -> str:
  """The family of a model, the name under which `create` makes it from `config_of(model)`.

  Raises:
    ValueError: the model is of no family here.
  """
  for name, family in FAMILIES.items():
    if type(model) is family:
      return name
  raise ValueError(f"model must be of a family in {sorted(FAMILIES)}, got {type(model).__name__}")


def config_of(model: nn.Module) -> dict[str, Any]:
  """JSON-able config that makes the same module by `create(name_of(model), **config)`."""
  config = {}
  for field in _fields(type(model)):
    config[field] = _thawed(getattr(model, field))
  return config


def _fields(family: type[nn.Module]) -> list[str]:
  return [f.name for f in dataclasses.fields(family) if f.name not in ("parent", "name")]


def _palette(value: Any) -> Any:
  """A palette of levels, or several of several."""
  if isinstance(value, Palette):
    return value
  nested = isinstance(value, Sequence) and any(isinstance(v, Sequence | Palette) for v in value)
  return tuple(map(_palette, value)) if nested else Palette(tuple(value))


def _frozen(value: Any) -> Any:
  """Sequences as tuples, at any depth: modules must be hashable."""
  return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _thawed(value: Any) -> Any:
  """Sequences as lists, at any depth, and palettes as their levels, as JSON has them."""
  if isinstance(value, Palette):
    return list(value.levels)
  return list(map(_thawed, value)) if isinstance(value, list | tuple) else value
