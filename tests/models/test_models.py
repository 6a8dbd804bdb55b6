"""Models by name, their structure, and configs that survive JSON."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax import models
from hetjax import nn as hnn
from hetjax.core import Palette
from hetjax.models import lenet, mobilenet


def _example(shape, dtype=jnp.float32):
  return jax.ShapeDtypeStruct((1, *shape), dtype)


def _specs(model, shape):
  return hnn.layer_specs(model, _example(shape))


@pytest.mark.parametrize("name", models.MODELS)
def test_config_makes_the_same_module_again(name):
  outputs = "vocabulary" if name == "language_model" else "classes"
  model = models.create(name, palette=[2, 4], **{outputs: 7})
  config = json.loads(json.dumps(models.config_of(model)))
  again = models.create(models.name_of(model), **config)
  assert again == model and hash(again) == hash(model)
  assert getattr(model, outputs) == 7 and model.palette.levels == (2, 4)


def test_a_residual_network_has_a_palette_for_every_stage_that_is_given_one():
  model = models.create("resnet8", palette=[(2, 4, 8), (1, 4), [1, 2, 4]])
  config = json.loads(json.dumps(models.config_of(model)))
  assert config["palette"] == [[2, 4, 8], [1, 4], [1, 2, 4]]
  again = models.create(models.name_of(model), **config)
  assert again == model and hash(again) == hash(model)
  specs = _specs(model, (32, 32, 3))
  for stage, levels in enumerate([(2, 4, 8), (1, 4), (1, 2, 4)]):
    staged = {s.palette.levels for n, s in specs.items() if n.startswith(f"stage{stage}")}
    assert staged == {levels}
  with pytest.raises(ValueError, match="palette must be one or one for each of 3 stages, got 2"):
    _specs(models.create("resnet8", palette=[(1, 2), (1, 4)]), (32, 32, 3))
  with pytest.raises(ValueError, match="palette levels must be among"):
    models.create("resnet8", palette=[(1, 3), (1, 4), (1, 2)])


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
  ("name", "parameters", "macs"),
  [
    ("resnet18", 11_689_512, 1_814_073_344),
    ("resnet50", 25_557_032, 4_089_184_256),
    ("mobilenet_v2", 3_504_872, 300_774_272),
    ("vit_tiny", 5_717_032, 1_069_542_912),
    ("vit_small", 22_049_896, 4_219_984_896),
  ],
)
def test_imagenet_networks_have_the_published_sizes(name, parameters, macs):
  """Parameters are those of torchvision's and, less the class token and its position, timm's.

  He et al. give 1.8 and, with the stride in the 3x3 convolution, 4.1 billion multiply-adds; Sandler
  et al. 300 million.
  """
  model, example = models.create(name, classes=1000), _example((224, 224, 3))
  shapes = jax.eval_shape(model.init, jax.random.key(0), example)["params"]
  leaves = jax.tree_util.tree_leaves_with_path(shapes)
  own = [leaf.size for path, leaf in leaves if path[-1].key not in ("alpha", "beta")]
  assert sum(own) == parameters
  assert sum(s.macs for s in hnn.layer_specs(model, example).values()) == macs


def test_stems():
  sizes = {}
  for stem in ("cifar", "strided", "imagenet"):
    specs = _specs(models.create("resnet8", stem=stem), (32, 32, 3))
    sizes[stem] = (specs["stem_conv"].positions, specs["stage0_block0/conv1"].positions)
  assert sizes == {"cifar": (1024, 1024), "strided": (256, 256), "imagenet": (256, 64)}


def test_lenets_have_the_published_weights():
  """Those of Han et al.'s networks (2015, arXiv 1510.00149) and Caffe's, but for the biases."""
  for name, weights, pinned in (
    ("lenet", 430_500, {"conv0", "head"}),
    ("lenet_300_100", 266_200, {"head"}),
  ):
    specs = _specs(models.create(name), (28, 28, 1))
    assert sum(s.weights for s in specs.values()) == weights
    assert _pinned(specs) == pinned
    assert {n for n, s in specs.items() if s.signed} == {next(iter(specs))}
  assert specs["hidden0"].in_channels == 784  # a pixel is an input channel


def test_pooling_by_slices_is_pooling():
  x = jax.random.normal(jax.random.key(0), (2, 5, 8, 3))
  pool = lambda x: nn.max_pool(x, (2, 2), (2, 2))
  np.testing.assert_array_equal(lenet.halved(x), pool(x))
  gradients = [jax.grad(lambda x, f=f: jnp.sum(f(x) ** 2))(x) for f in (lenet.halved, pool)]
  np.testing.assert_array_equal(*gradients)


def _pinned(specs):
  return {n for n, s in specs.items() if s.pinned_bits is not None}


def test_mobilenet_widths_and_blocks():
  assert [mobilenet.scaled(c, w) for c, w in ((32, 1), (24, 0.75), (16, 0.35), (2, 1))] == [
    *(32, 24, 8, 8)  # 24 * 0.75 = 18 is not rounded to 16, more than a tenth below it
  ]
  model = models.create("mobilenet_v2", width=0.5)
  specs = _specs(model, (64, 64, 3))
  assert model.blocks == 17 and len(specs) == 3 * 17 - 1 + 3  # the first block does not expand
  assert _pinned(specs) == {"stem_conv", "head"}
  wide = specs["stage2_block0/depthwise"]
  assert (wide.groups, wide.kernel_shape, wide.positions) == (6 * 16, (3, 3, 1, 96), 8 * 8)
  assert specs["last_conv"].kernel_shape == (1, 1, 160, 1280)
  assert _specs(models.create("mobilenet_v2", width=2), (32, 32, 3))["head"].in_channels == 2560


def test_transformer_layers():
  small = models.create("transformer_small", vocabulary=1000)
  specs = hnn.layer_specs(small, _example((100,), jnp.int32))
  assert len(specs) == 12 * 6 + 1 and _pinned(specs) == {"head"}
  assert specs["block11/attention/query"].kernel_shape == (1, 1, 384, 384)
  assert specs["block0/mlp_in"].kernel_shape == (1, 1, 384, 1536)
  assert specs["block0/mlp_in"].positions == 100
  specs = _specs(models.create("transformer"), (10, 20))
  assert _pinned(specs) == {"embed", "head"} and specs["embed"].in_channels == 20
  specs = _specs(models.create("vit_tiny"), (224, 224, 3))
  assert _pinned(specs) == {"embed", "head"} and specs["embed"].kernel_shape == (16, 16, 3, 192)
  assert specs["embed"].positions == specs["block0/mlp_out"].positions == 196


def test_tokens_are_told_apart_by_value_and_place():
  model = models.create("transformer", width=16, depth=1, vocabulary=5)
  x = np.array([[0, 1, 2], [0, 1, 3], [1, 0, 2]], np.int32)
  variables = models.random_variables(model, x, {1: 0.5, 4: 0.5})
  first, other, swapped = np.asarray(jax.jit(model.apply)(variables, x))
  assert np.abs(first - other).max() > 1e-4 and np.abs(first - swapped).max() > 1e-5


def test_what_cannot_be_made_is_refused():
  with pytest.raises(ValueError, match="model must be one of.*'resnet9'"):
    models.create("resnet9")
  with pytest.raises(ValueError, match=r"unknown fields \['depth'\]"):
    models.create("resnet8", depth=3)
  with pytest.raises(ValueError, match=r"unknown fields \['vocabulary'\]; known: .*'patch'"):
    models.create("vit", vocabulary=3)
  with pytest.raises(ValueError, match="depth must be 6 n"):
    models.resnet.cifar(10)
  with pytest.raises(ValueError, match="model must be of a family in.*got Dense"):
    models.name_of(hnn.Dense(3))


@pytest.mark.parametrize(
  ("name", "shape", "change"),
  [
    ("resnet8", (8, 8, 1), {"stem": "none"}),
    ("resnet8", (8, 8, 1), {"widths": (4,)}),
    ("mobilenet_v2", (8, 8, 1), {"stages": ()}),
    ("mobilenet_v2", (8, 8, 1), {"stages": ((1, 8, 0, 1),)}),
    ("mobilenet_v2", (8, 8, 1), {"width": 0}),
    ("lenet", (28, 28, 1), {"features": (20, 0)}),
    ("lenet", (28, 28, 1), {"hidden": (-1,)}),
    ("lenet", (28, 28, 1), {"kernel": 0}),
    ("lenet", (28, 28, 1), {"kernel": 13}),
    ("lenet", (28, 28, 1), {"palette": (Palette(), Palette())}),
    ("lenet", (28, 28, 1), {"hidden": (), "features": ()}),
    ("transformer", (4, 8), {"heads": 5}),
    ("transformer", (4, 8), {"depth": 0}),
    ("transformer", (4, 8), {"activation": "swish"}),
    ("vit", (8, 8, 1), {"patch": 3}),
  ],
)
def test_attributes_that_do_not_fit_are_named(name, shape, change):
  with pytest.raises(ValueError, match=f"{next(iter(change))} must|and {next(iter(change))} must"):
    _specs(models.create(name, **change), shape)


def test_inputs_that_do_not_fit_are_refused():
  vectors, tokens = models.create("transformer"), models.create("transformer", vocabulary=9)
  with pytest.raises(ValueError, match="x must be integers.*vocabulary=9, got float32"):
    hnn.layer_specs(tokens, _example((4,)))
  with pytest.raises(ValueError, match=r"x must be floats.*vocabulary=None, got float32\[1, 4\]"):
    hnn.layer_specs(vectors, _example((4,)))
  with pytest.raises(ValueError, match="x must have at most 128 tokens, got 129"):
    hnn.layer_specs(tokens, _example((129,), jnp.int32))
