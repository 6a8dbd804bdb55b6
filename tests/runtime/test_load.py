"""Artifacts to networks: what does not fit is refused, what fits computes what training did."""

import dataclasses
import os

import jax
import numpy as np
import pytest

from hetjax import models, runtime
from hetjax import nn as hnn
from hetjax.nn.packing import artifact_of
from hetjax.pack import ArtifactError, write_artifact
from tests.shared.nets import quantized_variables

_SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def trained():
  """Model, variables for quantized mode, images."""
  model = models.create("resnet", stage_sizes=(1, 1), widths=(4, 6), classes=3)
  images = np.random.default_rng(0).normal(size=(5, *_SHAPE)).astype(np.float32)
  variables, specs = quantized_variables(model, images)
  return model, variables, specs, images


@pytest.fixture(scope="module")
def artifact(trained):
  model, variables, specs, _ = trained
  return artifact_of("resnet", models.registry.config_of(model), variables, specs)


def test_a_file_runs_as_its_variables_in_memory(trained, artifact, tmp_path):
  model, variables, specs, images = trained
  path = tmp_path / "network.safetensors"
  write_artifact(path, artifact)
  network = runtime.load(path, _SHAPE)
  packed = hnn.pack_variables(variables, specs)
  expected = jax.jit(lambda v, x: model.apply(v, x, mode="packed"))(packed, images)
  np.testing.assert_array_equal(jax.jit(network)(images), expected)
  np.testing.assert_array_equal(jax.jit(network.apply)(network.variables, images), expected)
  quantized = jax.jit(lambda v, x: model.apply(v, x, mode="quantized"))(variables, images)
  np.testing.assert_array_equal(expected, quantized)
  np.testing.assert_allclose(network(images), expected, rtol=1e-4, atol=1e-5)
  assert network.artifact.model_name == "resnet"


@pytest.mark.parametrize("implementation", [None, "reference"])
def test_a_loaded_network_outlives_its_file(artifact, tmp_path, implementation):
  """Mapped bytes that are gone from the file kill the process that touches them."""
  path = tmp_path / "network.safetensors"
  write_artifact(path, artifact)
  network = runtime.load(path, _SHAPE, implementation)
  os.truncate(path, 0)
  images = np.ones((2, *_SHAPE), np.float32)
  expected = runtime.build(artifact, _SHAPE, implementation)(images)
  np.testing.assert_array_equal(network(images), expected)


def test_weights_are_laid_out_once_for_the_implementation(artifact):
  reference = runtime.build(artifact, _SHAPE, "reference")
  storages = {layer["weights"].storage for layer in _packed_layers(reference)}
  assert storages == {"file"} and reference.implementation == "reference"
  best = runtime.build(artifact, _SHAPE)
  storages = {layer["weights"].storage for layer in _packed_layers(best)}
  assert len(storages) == 1
  images = np.ones((2, *_SHAPE), np.float32)
  np.testing.assert_array_equal(jax.jit(best)(images), jax.jit(reference)(images))


def _packed_layers(network):
  is_layer = lambda node: isinstance(node, dict) and "weights" in node
  return jax.tree.leaves(network.variables["packed"], is_leaf=is_layer)


def test_other_image_sizes_are_welcome_other_channels_are_not(artifact):
  network = runtime.build(artifact, (12, 10, 1))
  assert network(np.zeros((1, 12, 10, 1), np.float32)).shape == (1, 3)
  with pytest.raises(ArtifactError, match="layer 'stem_conv': the model needs"):
    runtime.build(artifact, (8, 8, 3))


@pytest.mark.parametrize(
  ("name", "config", "match"),
  [
    ("vgg", {}, "model 'vgg' cannot be made: model must be one of"),
    ("resnet", {"depth": 3}, r"'resnet' cannot be made: model config has unknown fields \['depth'"),
    ("resnet", {"palette": [3]}, "'resnet' cannot be made: palette levels"),
    ("resnet", {"widths": [4]}, "'resnet' cannot be made: stage_sizes and widths"),
    ("resnet", {"widths": 7}, "'resnet' cannot be made"),
    ("resnet", {"widths": ["a", "b"]}, "'resnet' cannot be made"),
    ("resnet", {"widths": [-4, 6]}, "'resnet' cannot be made"),
    ("resnet", {"stem": "none"}, "'resnet' cannot be made: stem must be one of"),
    ("resnet", {"name": "x"}, "'resnet' cannot be made"),
    ("resnet", {"pinned_bits": 4}, "layer 'head': the model needs"),
    ("resnet", {"classes": 4}, "layer 'head': the model needs"),
    ("resnet", {"palette": [1, 2]}, "layer 'stage0_block0/conv1': the model needs"),
    ("resnet", {"stage_sizes": [1, 2]}, "layer 'stage1_block1/conv1': the file does not have it"),
    ("resnet", {"bottleneck": True}, "layer 'head': the model needs"),
  ],
)
def test_another_model_is_refused(artifact, name, config, match):
  config = {**artifact.model_config, **config} if name == "resnet" else config
  changed = dataclasses.replace(artifact, model_name=name, model_config=config)
  with pytest.raises(ArtifactError, match=match):
    runtime.build(changed, _SHAPE)


def test_missing_and_foreign_parts_are_refused(artifact):
  def refused(match, **changes):
    with pytest.raises(ArtifactError, match=match):
      runtime.build(dataclasses.replace(artifact, **changes), _SHAPE)

  tensors = dict(artifact.tensors)
  path = "batch_stats/stem_norm/mean"
  value = tensors.pop(path)
  refused(rf"'{path}': the model needs \(4,\), the file has None", tensors=tensors)
  refused(r"the file has \(5,\)", tensors={**tensors, path: np.zeros(5, np.float32)})
  foreign = {**artifact.tensors, "params/other/scale": value}
  refused(r"'params/other/scale': the model needs None, the file has \(4,\)", tensors=foreign)
  layers = dict(artifact.layers)
  head = layers.pop("head")
  refused("layer 'head': the file does not have it", layers=layers)
  refused("layer 'tail': the model does not have it", layers={**artifact.layers, "tail": head})
