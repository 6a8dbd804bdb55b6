"""Float networks of `hetjax.models` as graphs, norms of convolutions folded into their kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as linen
import numpy as np

from hetjax.bench.graph import Builder, Graph
from hetjax.models import LeNet, MobileNetV2, ResNet, Transformer
from hetjax.models.mobilenet import scaled
from hetjax.models.resnet import STEMS

BATCH_NORM_EPSILON, LAYER_NORM_EPSILON = 1e-5, 1e-6
Tree = Mapping[str, Any]


def graph_of(model: linen.Module, variables: Tree, shape: tuple[int, ...]) -> Graph:
  """A network in float mode as a graph.

  Args:
    model: A ResNet, a MobileNetV2, a LeNet, or a Transformer over vectors.
    variables: `params` without alpha and beta (`nn.packing.float_variables`), and `batch_stats`.
    shape: Of its input, batch first.

  Raises:
    ValueError: another network.
  """
  builder = Builder(shape)
  params, stats = variables["params"], variables.get("batch_stats", {})
  if isinstance(model, ResNet):
    _resnet(model, builder, params, stats)
  elif isinstance(model, MobileNetV2):
    _mobilenet(model, builder, params, stats)
  elif isinstance(model, LeNet):
    _lenet(model, builder, params, stats)
  elif isinstance(model, Transformer) and model.vocabulary is None:
    _transformer(model, builder, params)
  else:
    raise ValueError(f"model must be one that has a translation, got {type(model).__name__}")
  return builder.graph()


def _folded(params: Tree, stats: Tree, layer: str, norm: str) -> tuple[np.ndarray, np.ndarray]:
  """Kernel and bias of a layer without bias and the batch norm that follows it."""
  kernel = np.asarray(params[layer]["kernel"])
  gain = np.asarray(params[norm]["scale"]) / np.sqrt(
    np.asarray(stats[norm]["var"]) + BATCH_NORM_EPSILON
  )
  bias = np.asarray(params[norm]["bias"]) - np.asarray(stats[norm]["mean"]) * gain
  return kernel * gain, bias


def _dense(builder: Builder, params: Tree, x: str, activation: str | None = None) -> str:
  kernel = np.asarray(params["kernel"])
  bias = params.get("bias", np.zeros(kernel.shape[-1]))
  return builder.dense(x, kernel, np.asarray(bias), activation=activation)


def _resnet(model: ResNet, builder: Builder, params: Tree, stats: Tree) -> None:
  def conv(x, p, s, name, norm, strides, padding, activation):
    kernel, bias = _folded(p, s, name, norm)
    return builder.conv(x, kernel, bias, strides=strides, padding=padding, activation=activation)

  _, strides, padding = STEMS[model.stem]
  x = conv(builder.input, params, stats, "stem_conv", "stem_norm", strides, padding, "relu")
  if model.stem == "imagenet":
    x = builder.max_pool(x, window=3, strides=2, padding=1)
  for stage, count in enumerate(model.stage_sizes):
    for index in range(count):
      name = f"stage{stage}_block{index}"
      p, s, strides = params[name], stats[name], 2 if stage > 0 and index == 0 else 1
      if model.bottleneck:
        y = conv(x, p, s, "conv1", "norm1", 1, 0, "relu")
        y = conv(y, p, s, "conv2", "norm2", strides, 1, "relu")
        y = conv(y, p, s, "conv3", "norm3", 1, 0, None)
      else:
        y = conv(x, p, s, "conv1", "norm1", strides, 1, "relu")
        y = conv(y, p, s, "conv2", "norm2", 1, 1, None)
      if "shortcut_conv" in p:
        x = conv(x, p, s, "shortcut_conv", "shortcut_norm", strides, 0, None)
      x = builder.add(x, y, activation="relu")
  _dense(builder, params["head"], builder.mean(x))


def _mobilenet(model: MobileNetV2, builder: Builder, params: Tree, stats: Tree) -> None:
  kernel, bias = _folded(params, stats, "stem_conv", "stem_norm")
  x = builder.conv(
    builder.input, kernel, bias, strides=model.stem_strides, padding=1, activation="relu6"
  )
  channels = kernel.shape[-1]
  for stage, (_, width, count, first) in enumerate(model.stages):
    features = scaled(width, model.width)
    for index in range(count):
      name = f"stage{stage}_block{index}"
      p, s, strides = params[name], stats[name], first if index == 0 else 1
      y = x
      if "expand" in p:
        y = builder.conv(y, *_folded(p, s, "expand", "expand_norm"), activation="relu6")
      kernel, bias = _folded(p, s, "depthwise", "depthwise_norm")
      y = builder.conv(
        y,
        kernel,
        bias,
        strides=strides,
        padding=1,
        groups=kernel.shape[-1],
        activation="relu6",
      )
      y = builder.conv(y, *_folded(p, s, "project", "project_norm"))
      x = builder.add(x, y) if strides == 1 and channels == features else y
      channels = features
  x = builder.conv(x, *_folded(params, stats, "last_conv", "last_norm"), activation="relu6")
  _dense(builder, params["head"], builder.mean(x))


def _lenet(model: LeNet, builder: Builder, params: Tree, stats: Tree) -> None:
  x, (height, width, channels) = builder.input, builder.shape[1:]
  for index, features in enumerate(model.features):
    kernel, bias = _folded(params, stats, f"conv{index}", f"conv{index}_norm")
    x = builder.max_pool(
      builder.conv(x, kernel, bias, activation="relu"), window=2, strides=2, padding=0
    )
    height, width = ((size - model.kernel + 1) // 2 for size in (height, width))
    channels = features
  x = builder.flatten(x, sizes=(height, width, channels))
  for index in range(len(model.hidden)):
    kernel, bias = _folded(params, stats, f"hidden{index}", f"hidden{index}_norm")
    x = builder.dense(x, kernel, bias, activation="relu")
  _dense(builder, params["head"], x)


def _transformer(model: Transformer, builder: Builder, params: Tree) -> None:
  def norm(x, p):
    scale, bias = np.asarray(p["scale"]), np.asarray(p["bias"])
    return builder.layer_norm(x, scale, bias, epsilon=LAYER_NORM_EPSILON)

  x = _dense(builder, params["embed"], builder.input)
  tokens = builder.shape[1]
  x = builder.shift(x, np.asarray(params["positions"])[:tokens])
  for index in range(model.depth):
    p = params[f"block{index}"]
    y = norm(x, p["attention_norm"])
    attention = p["attention"]
    mixed = builder.attention(
      *(_dense(builder, attention[name], y) for name in ("query", "key", "value")),
      heads=model.heads,
      channels=model.width,
    )
    x = builder.add(x, _dense(builder, attention["output"], mixed))
    y = _dense(builder, p["mlp_in"], norm(x, p["mlp_norm"]), model.activation)
    x = builder.add(x, _dense(builder, p["mlp_out"], y))
  _dense(builder, params["head"], builder.mean(norm(x, params["norm"])))
