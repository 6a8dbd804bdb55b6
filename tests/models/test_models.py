"""Models by name, their structure, and configs that survive JSON."""

import json

import jax
import jax.numpy as jnp
import pytest

from hetjax import models
from hetjax import nn as hnn


def _specs(model, shape):
  return hnn.layer_specs(model, jax.ShapeDtypeStruct((1, *shape), jnp.float32))


@pytest.mark.parametrize("name", models.MODELS)
def test_config_makes_the_same_module_again(name):
  model = models.create(name, classes=7, palette=[2, 4])
  config = json.loads(json.dumps(models.registry.config_of(model)))
  assert models.create("resnet", **config) == model
  assert model.classes == 7 and model.palette.levels == (2, 4)


@pytest.mark.parametrize(("depth", "blocks"), [(8, 1), (20, 3)])
def test_depth_counts_the_weighted_layers(depth, blocks):
  specs = _specs(models.create(f"resnet{depth}"), (32, 32, 3))
  shortcuts = [n for n in specs if n.endswith("shortcut_conv")]
  assert len(specs) - len(shortcuts) == depth
  assert len(shortcuts) == 2
  assert sum("stage1" in n and "shortcut" not in n for n in specs) == 2 * blocks
  pinned = {n for n, s in specs.items() if s.pinned_bits is not None}
  assert pinned == {"stem_conv", "head"}
  assert {n for n, s in specs.items() if s.signed} == {"stem_conv"}
  assert specs["stage2_block0/conv1"].positions == 64


@pytest.mark.parametrize(
  ("name", "weights", "macs"),
  [("resnet18", 11_678_912, 1_814_073_344), ("resnet50", 25_502_912, 4_089_184_256)],
)
def test_imagenet_networks_have_the_published_sizes(name, weights, macs):
  """He et al. give 1.8 and, with the stride in the 3x3 convolution, 4.1 billion multiply-adds."""
  specs = _specs(models.create(name), (224, 224, 3))
  assert sum(s.weights for s in specs.values()) == weights
  assert sum(s.macs for s in specs.values()) == macs


def test_stems():
  sizes = {}
  for stem in ("cifar", "strided", "imagenet"):
    specs = _specs(models.create("resnet8", stem=stem), (32, 32, 3))
    sizes[stem] = (specs["stem_conv"].positions, specs["stage0_block0/conv1"].positions)
  assert sizes == {"cifar": (1024, 1024), "strided": (256, 256), "imagenet": (256, 64)}


def test_what_cannot_be_made_is_refused():
  with pytest.raises(ValueError, match="model must be one of.*'resnet9'"):
    models.create("resnet9")
  with pytest.raises(ValueError, match=r"unknown fields \['depth'\]"):
    models.create("resnet8", depth=3)
  with pytest.raises(ValueError, match="depth must be 6 n"):
    models.resnet.cifar(10)
  for change in ({"stem": "none"}, {"widths": (4,)}):
    with pytest.raises(ValueError, match=next(iter(change))):
      _specs(models.create("resnet8", **change), (8, 8, 1))
