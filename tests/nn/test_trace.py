"""Static descriptions of layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from hetjax import nn as hnn
from hetjax.core import LayerSpec, Palette
from tests.shared.nets import Mixed


class Twice(nn.Module):
  @nn.compact
  def __call__(self, x):
    layer = hnn.Dense(4, name="shared")
    return layer(layer(x))


class Nested(nn.Module):
  @nn.compact
  def __call__(self, x, *, deep):
    for _ in range(2 if deep else 1):
      x = Inner()(x)
    return x


class Inner(nn.Module):
  @nn.compact
  def __call__(self, x):
    return nn.Dense(4)(hnn.Dense(3, signed=True, name="quantized")(x))


def test_specs_by_hand_in_order_of_execution():
  default, pinned8, pinned4 = Palette(), Palette((8,)), Palette((4,))
  expected = [
    LayerSpec("stem", (3, 3, 3, 8), 1, pinned8, True, 8, 9 * 10),
    LayerSpec("grouped", (3, 3, 2, 12), 4, default, True, None, 4 * 4),
    LayerSpec("depthwise", (3, 3, 1, 24), 12, default, False, None, 3 * 3),
    LayerSpec("wide", (1, 3, 24, 10), 1, Palette((2, 8)), False, None, 3 * 3),
    LayerSpec("hidden", (1, 1, 90, 9), 1, default, True, None, 1, "dense"),
    LayerSpec("head", (1, 1, 9, 7), 1, pinned4, True, 4, 1, "dense"),
  ]
  specs = hnn.layer_specs(Mixed(), jax.ShapeDtypeStruct((2, 9, 10, 3), jnp.float32))
  assert list(specs) == [s.name for s in expected]
  assert list(specs.values()) == expected


def test_names_are_paths_and_keywords_reach_the_model():
  specs = hnn.layer_specs(Nested(), jnp.zeros((1, 5)), deep=True)
  assert list(specs) == ["Inner_0/quantized", "Inner_1/quantized"]
  assert list(hnn.layer_specs(Nested(), jnp.zeros((1, 5)), deep=False)) == ["Inner_0/quantized"]


def test_positions_of_a_dense_layer_over_more_axes():
  spec = hnn.layer_specs(Inner(), jnp.zeros((2, 5, 6, 7)))["quantized"]
  assert spec.positions == 30


def test_a_layer_applied_twice_is_refused():
  with pytest.raises(ValueError, match="'shared' is applied more than once"):
    hnn.layer_specs(Twice(), jnp.zeros((1, 4)))
