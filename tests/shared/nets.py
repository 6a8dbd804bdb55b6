"""A small network with every kind of layer, and helpers to give networks levels and scales."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hetjax import nn as hnn
from hetjax.core import Assignment, Palette
from hetjax.learn.calibrate import calibrate
from hetjax.nn.packing import assignment_collection


class Mixed(nn.Module):
  """Pinned, grouped, depthwise, dilated, strided, biased, signed and unsigned layers."""

  @nn.compact
  def __call__(self, x, *, mode="float", train=False, implementation=None):
    common = {"mode": mode, "implementation": implementation}
    x = hnn.Conv(8, 3, signed=True, pinned_bits=8, name="stem", **common)(x)
    x = hnn.Conv(
      12, 3, 2, padding="VALID", feature_group_count=4, signed=True, name="grouped", **common
    )(x)
    x = hnn.Conv(
      24, 3, padding=((1, 2), (2, 1)), kernel_dilation=2, feature_group_count=12, use_bias=False,
      name="depthwise", **common,
    )(nn.relu(x))  # fmt: skip
    x = nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(x))
    x = hnn.Conv(10, (1, 3), palette=Palette((2, 8)), name="wide", **common)(x)
    x = jnp.tanh(x).reshape(x.shape[0], -1)
    x = hnn.Dense(9, signed=True, name="hidden", **common)(x)
    head = hnn.Dense(7, signed=True, pinned_bits=4, use_bias=False, name="head", **common)
    return head(x) + x[:, :7]  # what an addition does to a layer without bias shows in the logits


def random_assignment(specs, seed=0):
  """Uniformly random levels of every channel."""
  rng = np.random.default_rng(seed)
  free = {n: s for n, s in specs.items() if s.pinned_bits is None}
  bits = {n: rng.choice(s.palette.levels, s.in_channels) for n, s in free.items()}
  return Assignment.create(specs, bits)


def random_variables(model, images, seed=0):
  """Random `params` and `batch_stats` with ones for alpha and beta; compiles nothing."""
  shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), images)
  rng = np.random.default_rng(seed)

  def leaf(path, shape):
    name = path[-1].key
    if name in ("scale", "var"):
      return np.float32(rng.uniform(0.5, 1.5, shape.shape))
    if name in ("alpha", "beta"):
      return np.ones(shape.shape, np.float32)
    fan_in = max(1, np.prod(shape.shape[:-1]))
    return np.float32(rng.normal(size=shape.shape) / np.sqrt(fan_in if name == "kernel" else 25))

  fixed = {k: shapes[k] for k in ("params", "batch_stats") if k in shapes}
  return jax.tree_util.tree_map_with_path(leaf, fixed)


def quantized_variables(model, images, seed=0):
  """Variables for quantized mode: random weights, biases, norms and levels, calibrated scales."""
  specs = hnn.layer_specs(model, images)
  variables = random_variables(model, images, seed)
  variables["assignment"] = assignment_collection(random_assignment(specs, seed), specs)
  return calibrate(model, variables, images, specs), specs


@functools.cache
def mixed():
  """`Mixed` with its images, variables for quantized mode, and layers; not to be written to."""
  model = Mixed()
  images = np.random.default_rng(1).normal(size=(8, 9, 10, 3)).astype(np.float32)
  return model, images, *quantized_variables(model, images)
