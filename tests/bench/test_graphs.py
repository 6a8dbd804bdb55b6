"""Graphs: what they compute, what quantization makes of them, and that they are the networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax import models
from hetjax import nn as hnn
from hetjax.bench import execute, network_graphs, quantization
from hetjax.bench.graph import Builder
from hetjax.models import random_variables

NETWORKS = {
  "basic blocks": (
    "resnet",
    {"stage_sizes": [1, 1], "widths": [4, 6], "stem": "imagenet", "classes": 3},
    (2, 16, 16, 3),
  ),
  "bottlenecks": (
    "resnet",
    {
      "stage_sizes": [1, 1],
      "widths": [4, 6],
      "stem": "imagenet",
      "bottleneck": True,
      "classes": 3,
    },
    (1, 16, 16, 3),
  ),
  "cifar": ("resnet", {"widths": [4, 8, 8], "stem": "strided", "classes": 3}, (1, 12, 12, 1)),
  "mobilenet": (
    "mobilenet_v2",
    {
      "stages": [[1, 8, 1, 1], [2, 8, 2, 2]],
      "stem_features": 8,
      "last_features": 16,
      "classes": 3,
    },
    (1, 16, 16, 3),
  ),
  "lenet": (
    "lenet",
    {"features": [4, 6], "hidden": [8], "kernel": 3, "classes": 3},
    (2, 13, 14, 1),
  ),
  "pixels": ("lenet", {"features": [], "hidden": [8, 6], "classes": 3}, (2, 4, 5, 2)),
  "transformer": (
    "transformer",
    {"width": 8, "depth": 2, "heads": 2, "classes": 3, "max_length": 6},
    (2, 5, 8),
  ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_graphs_compute_what_the_networks_compute(name):
  model_name, config, shape = NETWORKS[name]
  model = models.create(model_name, **config)
  x = jax.random.normal(jax.random.key(0), shape)
  variables = random_variables(model, x, {1: 0.5, 4: 0.5})
  specs = hnn.layer_specs(model, x)
  plain = hnn.packing.float_variables(variables, specs)
  graph = network_graphs.graph_of(model, plain, shape)
  with jax.default_matmul_precision("highest"):
    want = np.asarray(jax.jit(lambda v, x: model.apply(v, x, mode="float"))(plain, x))
  np.testing.assert_allclose(execute.run(graph, x), want, rtol=1e-4, atol=1e-5)


def test_networks_without_translation_are_refused():
  model = models.create("vit")
  with pytest.raises(ValueError, match="model must be one that has a translation, got ViT"):
    network_graphs.graph_of(model, {"params": {}}, (1, 8, 8, 3))


def test_unknown_activations_are_refused():
  builder = Builder((1, 2))
  with pytest.raises(ValueError, match="activation must be one of .*, got 'tanh'"):
    builder.dense(builder.input, np.ones((2, 2)), np.zeros(2), activation="tanh")


def _two_layers():
  rng = np.random.default_rng(0)
  builder = Builder((1, 6, 6, 4))
  x = builder.conv(builder.input, rng.normal(size=(3, 3, 4, 8)), rng.normal(size=8), padding=1)
  x = builder.conv(x, rng.normal(size=(1, 1, 8, 2)), rng.normal(size=2), activation="relu")
  return builder.graph(), rng.normal(size=(1, 6, 6, 4)).astype(np.float32)


def test_ranges_hold_all_values_and_a_zero():
  graph, x = _two_layers()
  ranges = quantization.ranges_of(graph, x)
  assert set(ranges) == {"input", "conv0", "conv1"}
  found = ranges["input"]
  assert found.values(np.array([found.zero_point], np.uint8)) == 0
  np.testing.assert_allclose(found.values(found.codes(x)), x, atol=0.51 * found.scale)
  assert ranges["conv1"].zero_point == 0


def test_quantized_runs_are_near_and_on_the_grid():
  graph, x = _two_layers()
  ranges = quantization.ranges_of(graph, x)
  y = quantization.run_quantized(graph, x, ranges, quantized_output=True)
  want = execute.run(graph, x)
  assert 0 < np.max(np.abs(y - want)) < 0.05 * np.max(np.abs(want))
  steps = y / np.float32(ranges["conv1"].scale)
  np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)


def test_kernels_keep_to_their_codes():
  kernel = np.random.default_rng(1).normal(size=(3, 3, 2, 5)).astype(np.float32)
  for bits, top in ((8, 63), (4, 7)):
    codes, scale = quantization.quantize_kernel(kernel, bits)
    assert codes.dtype == np.int8 and np.abs(codes).reshape(-1, 5).max(0).tolist() == [top] * 5
    assert np.all(np.abs(codes * scale - kernel) <= 0.51 * scale)


def test_int4_codes_lie_two_a_byte():
  packed = quantization.pack_int4(np.array([[1, -1, 7], [-7, 0, 2]], np.int8))
  assert packed.tolist() == [[0xF1, 0x07], [0x09, 0x02]]


def test_only_networks_without_convolutions_keep_float_sums():
  images, _ = _two_layers()
  assert quantization.quantized_tensors(images) == ["input", "conv0"]
  builder = Builder((1, 3, 4))
  y = builder.dense(builder.input, np.eye(4), np.zeros(4))
  y = builder.mean(builder.add(builder.input, y))
  builder.dense(y, np.eye(4), np.zeros(4))
  assert quantization.quantized_tensors(builder.graph()) == ["input", "mean2"]


def test_observers_replace_what_later_nodes_read():
  graph, x = _two_layers()
  zero = lambda name, value: jnp.zeros_like(value) if name == "conv0" else value
  y = execute.execute(graph, execute.constants_of(graph), jnp.asarray(x), zero)
  bias = np.maximum(graph.nodes[1].constants["bias"], 0)
  np.testing.assert_allclose(y, np.broadcast_to(bias, y.shape))
