"""Networks for the fusion pass: those it must fuse whole, and some that it has never seen."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from hetjax import models
from hetjax import nn as hnn
from hetjax.core import Palette
from tests.shared.nets import Mixed, quantized_variables


class Separable(nn.Module):
  """Inverted residual blocks: expand, depthwise, linear projection, ReLU6."""

  @nn.compact
  def __call__(self, x, *, mode="float", train=False, implementation=None):
    conv = functools.partial(hnn.Conv, use_bias=False, mode=mode, implementation=implementation)
    norm = functools.partial(nn.BatchNorm, use_running_average=not train)
    x = nn.relu6(norm()(conv(6, 3, 2, signed=True, pinned_bits=8)(x)))
    for features, strides in ((6, 1), (8, 2), (8, 1)):
      y = nn.relu6(norm()(conv(18, 1, signed=True)(x)))
      y = nn.relu6(norm()(conv(18, 3, strides, feature_group_count=18)(y)))
      y = norm()(conv(features, 1)(y))
      x = x + y if y.shape == x.shape else y
    x = jnp.mean(x, axis=(1, 2))
    return hnn.Dense(5, signed=True, pinned_bits=8, mode=mode, implementation=implementation)(x)


class Mlp(nn.Module):
  """Dense layers with an activation between them."""

  activation: Callable = nn.relu

  @nn.compact
  def __call__(self, x, *, mode="float", train=False, implementation=None):
    dense = functools.partial(hnn.Dense, mode=mode, implementation=implementation, signed=True)
    x = x.reshape(x.shape[0], -1)
    for features in (24, 17, 5):
      x = dense(features)(x)
      x = self.activation(x) if features != 5 else x
    return x


class Encoder(nn.Module):
  """A pre-norm transformer block over rows of the image."""

  @nn.compact
  def __call__(self, x, *, mode="float", train=False, implementation=None):
    dense = functools.partial(hnn.Dense, mode=mode, implementation=implementation, signed=True)
    x = x.reshape(x.shape[0], x.shape[1], -1)
    x = dense(16, name="embed")(x) + self.param("position", nn.initializers.normal(), (16,))
    y = nn.LayerNorm()(x)
    q, k, v = (dense(16, name=n)(y) for n in "qkv")
    y = nn.dot_product_attention(*(t.reshape(*t.shape[:2], 4, 4) for t in (q, k, v)))
    x = x + dense(16, name="out")(y.reshape(x.shape))
    y = dense(40, name="up")(nn.LayerNorm()(x))
    x = dense(16, name="down")(nn.gelu(y)) + x
    return dense(5, name="head")(jnp.mean(nn.LayerNorm()(x), axis=1))


class Strange(nn.Module):
  """What a pass gets wrong if it assumes too much."""

  @nn.compact
  def __call__(self, x, *, mode="float", train=False, implementation=None):
    conv = functools.partial(hnn.Conv, mode=mode, implementation=implementation, signed=True)
    factor = self.param("factor", nn.initializers.ones, (8,))
    field = self.param("field", nn.initializers.normal(), (8, 8, 8))
    x = conv(8, 3, name="stem")(x)
    a = conv(8, 3, name="a")(x)  # three readers of x: two layers and the difference below
    b = conv(8, 3, palette=Palette((2, 8)), name="b")(x)
    a = nn.BatchNorm(use_running_average=not train, name="norm")(a) * factor
    d = x - a  # no residual: the layer is subtracted
    b = b + b  # both operands of an addition
    c = b + jnp.mean(d, axis=(1, 2), keepdims=True)  # a residual of another shape
    c = 1.0 - conv(8, 1, name="c")(c)  # a constant minus the layer
    c = jnp.maximum(c, 0.0) * 2.0 + 0.25  # scale and shift after the activation
    e = jnp.minimum(conv(8, 1, name="e")(c), 6.0)  # half of a ReLU6
    e = e * field  # a factor per position
    f = nn.relu(conv(8, 1, name="f")(jnp.tanh(e)))
    f = jnp.where(f > 1.0, f, conv(8, 1, name="g")(f))  # values and records of one tensor
    h = nn.remat(hnn.Conv)(
      8, 3, 2, mode=mode, implementation=implementation, signed=True, name="h"
    )(jnp.concatenate([d, f], axis=-1))  # fmt: skip
    h = h / jnp.exp(factor) + nn.max_pool(d, (2, 2), (2, 2))  # a quotient, then a residual
    h = nn.hard_swish(h)
    k = -conv(8, 1, name="k")(h) + conv(8, 1, name="l")(h)  # two layers added
    return jnp.mean(k, axis=(1, 2)), {"features": h}


@dataclasses.dataclass(frozen=True)
class Net:
  """A network and what the pass must make of it.

  Attributes:
    model: The module.
    fused: Fused layers in the fused program.
    quantize_packs: Single quantize_pack equations left in it.
    kept: Fused layers that keep float values.
    image: Height, width and channels.
  """

  model: nn.Module
  fused: int
  quantize_packs: int
  kept: int
  image: tuple[int, int, int] = (8, 8, 3)


# A basic ResNet keeps values where a shortcut or the mean reads them; each block is one pair of
# layers, and a third where the shape changes.
_RESNET = functools.partial(models.create, "resnet", stage_sizes=(1, 2), classes=5)
NETS = {
  "resnet": Net(_RESNET(widths=(4, 6)), 9, 0, 5),
  "bottleneck": Net(_RESNET(widths=(3, 4), bottleneck=True), 13, 0, 5),
  "imagenet_stem": Net(_RESNET(widths=(4, 6), stem="imagenet"), 9, 0, 5, (32, 32, 3)),
  "separable": Net(Separable(), 11, 0, 4),
  "relu_mlp": Net(Mlp(), 3, 0, 1),
  "gelu_mlp": Net(Mlp(nn.gelu), 3, 0, 3),
  "encoder": Net(Encoder(), 8, 0, 8),
  "mixed": Net(Mixed(), 6, 0, 3, (9, 10, 3)),
  "strange": Net(Strange(), 10, 0, 10),
}


@functools.cache
def packed(name: str):
  """Variables for packed mode and images of a network; not to be written to."""
  net = NETS[name]
  images = np.random.default_rng(1).normal(size=(64, *net.image)).astype(np.float32)
  variables, specs = quantized_variables(net.model, images[:8])
  return hnn.pack_variables(variables, specs), jnp.asarray(images)


def scores(result):
  """The tensor that holds a network's scores."""
  return np.asarray(jax.tree.leaves(result)[0])
