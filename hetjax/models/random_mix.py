"""Networks with random weights and levels, for benchmarks: made by NumPy, nothing is compiled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Shaped

from hetjax import nn as hnn
from hetjax.core import Assignment
from hetjax.core.layers import LayerSpecs
from hetjax.nn.packing import assignment_collection


def random_variables(
  model: nn.Module,
  example: Shaped[Array, "b ..."] | jax.ShapeDtypeStruct,
  mix: Mapping[int, float],
  seed: int = 0,
) -> dict[str, Any]:
  """Variables for float and quantized mode: random weights, norms and levels.

  Kernels are standard normal in grid units and alpha brings a layer's outputs to the size of its
  inputs. The values are plausible; a network of them computes nothing of use.

  Args:
    model: The network.
    example: An input, or its shape and dtype.
    mix: Level -> share of the channels of every layer that is not pinned; the shares sum to 1.
    seed: Of weights and of which channels get which level.

  Returns:
    `params`, `assignment` and, if the model has norms with statistics, `batch_stats`.

  Raises:
    ValueError: shares that are negative or do not sum to 1, or a level that a palette lacks.
  """
  return _random_variables(model, example, hnn.layer_specs(model, example), mix, seed)


def _random_variables(model, example, specs: LayerSpecs, mix, seed: int) -> dict[str, Any]:
  shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x), example)
  rng = np.random.default_rng(seed)
  fan_in = {name: spec.taps * spec.kernel_shape[2] for name, spec in specs.items()}

  def leaf(path, shape):
    *module, name = (key.key for key in path[1:])
    draw = lambda: rng.standard_normal(shape.shape, np.float32)
    if name == "kernel":
      return draw()
    if name == "alpha":
      return np.full(shape.shape, 1 / math.sqrt(fan_in["/".join(module)]), np.float32)
    if name == "beta":
      return np.ones(shape.shape, np.float32)
    if name in ("scale", "var"):
      return rng.uniform(0.5, 1.5, shape.shape).astype(np.float32)
    return np.float32(0.1) * draw()  # biases, means, embeddings, positions

  fixed = {k: shapes[k] for k in ("params", "batch_stats") if k in shapes}
  variables = jax.tree_util.tree_map_with_path(leaf, fixed)
  assignment = random_assignment(specs, mix, rng)
  return {**variables, "assignment": assignment_collection(assignment, specs)}


def random_packed_variables(
  model: nn.Module,
  example: Shaped[Array, "b ..."] | jax.ShapeDtypeStruct,
  mix: Mapping[int, float],
  seed: int = 0,
) -> dict[str, Any]:
  """Variables for packed mode: those of `random_variables`, packed."""
  specs = hnn.layer_specs(model, example)
  return hnn.pack_variables(_random_variables(model, example, specs, mix, seed), specs)


def random_assignment(
  specs: LayerSpecs, mix: Mapping[int, float], rng: np.random.Generator
) -> Assignment:
  """Levels in the shares of `mix`, rounded to whole channels, on random channels.

  Raises:
    ValueError: see `random_variables`.
  """
  shares = np.array(list(mix.values()), np.float64)
  if not (shares >= 0).all() or not math.isclose(shares.sum(), 1.0, abs_tol=1e-6):
    raise ValueError(f"mix must hold shares from 0 that sum to 1, got {dict(mix)}")
  bits = {}
  for name, spec in specs.items():
    if spec.pinned_bits is None:
      ends = np.round(np.cumsum(shares) * spec.in_channels).astype(int)
      bits[name] = rng.permutation(np.repeat(list(mix), np.diff(ends, prepend=0)))
  return Assignment.create(specs, bits)
