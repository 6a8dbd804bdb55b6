"""Residual networks (He et al., 2015, arXiv 1512.03385): CIFAR-style and ImageNet-style.

First convolution and classifier are pinned at 8 bits; every other layer learns its precisions.
All convolutions but the first read a ReLU's output, so their activations are unsigned.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from hetjax import nn as hnn
from hetjax.core import Palette
from hetjax.models.parts import conv_and_norm, stage_palettes

# Kernel size, strides and padding of the first convolution.
STEMS = {"cifar": (3, 1, 1), "strided": (3, 2, 1), "imagenet": (7, 2, 3)}


class BasicBlock(nn.Module):
  """Two 3x3 convolutions and a shortcut, projected where the shape changes."""

  features: int
  strides: int
  conv: Callable
  norm: Callable

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b ho wo n"]:
    y = self.conv(self.features, 3, self.strides, padding=1, name="conv1")(x)
    y = nn.relu(self.norm(name="norm1")(y))
    y = self.conv(self.features, 3, padding=1, name="conv2")(y)
    y = self.norm(name="norm2")(y)
    return nn.relu(y + _shortcut(self, x, self.features))


class BottleneckBlock(nn.Module):
  """1x1, 3x3 and 1x1 convolutions; the last widens fourfold, the 3x3 one strides ("v1.5")."""

  features: int
  strides: int
  conv: Callable
  norm: Callable

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b ho wo n"]:
    y = nn.relu(self.norm(name="norm1")(self.conv(self.features, 1, name="conv1")(x)))
    y = self.conv(self.features, 3, self.strides, padding=1, name="conv2")(y)
    y = nn.relu(self.norm(name="norm2")(y))
    y = self.norm(name="norm3")(self.conv(4 * self.features, 1, name="conv3")(y))
    return nn.relu(y + _shortcut(self, x, 4 * self.features))


def _shortcut(block: nn.Module, x: Array, features: int) -> Array:
  if block.strides == 1 and x.shape[-1] == features:
    return x
  y = block.conv(features, 1, block.strides, padding=0, name="shortcut_conv")(x)
  return block.norm(name="shortcut_norm")(y)


class ResNet(nn.Module):
  """A residual network over NHWC images.

  Attributes:
    stage_sizes: Blocks per stage.
    widths: Channels per stage (before a bottleneck's fourfold widening).
    classes: Outputs.
    stem: "cifar" (3x3), "strided" (3x3, stride 2) or "imagenet" (7x7, stride 2, max pooling).
    bottleneck: Bottleneck blocks instead of basic ones.
    palette: Levels of the layers that are not pinned: one palette, or one for every stage.
    pinned_bits: Level of first convolution and classifier.
  """

  stage_sizes: Sequence[int] = (1, 1, 1)
  widths: Sequence[int] = (16, 32, 64)
  classes: int = 10
  stem: str = "cifar"
  bottleneck: bool = False
  palette: Palette | Sequence[Palette] = Palette()
  pinned_bits: int = 8

  @property
  def blocks(self) -> int:
    """Blocks that a call runs."""
    return sum(self.stage_sizes)

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b h w c"],
    *,
    mode: str = "float",
    train: bool = False,
    implementation: str | None = None,
  ) -> Float[Array, "b classes"]:
    """Logits.

    Args:
      x: Normalised images.
      mode: Mode of all quantized layers, see `nn.quantized`.
      train: Whether batch norms use and update the batch's statistics.
      implementation: Of the packed ops.
    """
    if self.stem not in STEMS:
      raise ValueError(f"stem must be one of {tuple(STEMS)}, got {self.stem!r}")
    if not self.stage_sizes or min(self.stage_sizes) < 1:
      raise ValueError(f"stage_sizes must be positive, one or more, got {self.stage_sizes}")
    if len(self.stage_sizes) != len(self.widths):
      raise ValueError(
        f"stage_sizes and widths must have equal length, got {self.stage_sizes}, {self.widths}"
      )
    palettes = stage_palettes(self.palette, len(self.stage_sizes))
    common = {"mode": mode, "implementation": implementation}
    conv, norm = conv_and_norm(common, train)
    size, strides, pad = STEMS[self.stem]
    x = conv(
      self.widths[0],
      size,
      strides,
      padding=pad,
      signed=True,
      pinned_bits=self.pinned_bits,
      name="stem_conv",
    )(x)
    x = nn.relu(norm(name="stem_norm")(x))
    if self.stem == "imagenet":
      x = nn.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
    block = BottleneckBlock if self.bottleneck else BasicBlock
    for stage, (count, width) in enumerate(zip(self.stage_sizes, self.widths, strict=True)):
      staged = functools.partial(conv, palette=palettes[stage])
      for index in range(count):
        strides = 2 if stage > 0 and index == 0 else 1
        x = block(width, strides, staged, norm, name=f"stage{stage}_block{index}")(x)
    x = jnp.mean(x, axis=(1, 2))
    return hnn.Dense(self.classes, pinned_bits=self.pinned_bits, name="head", **common)(x)


def cifar(depth: int) -> Callable[..., ResNet]:
  """CIFAR-style ResNet of `depth = 6 n + 2` layers, three stages of n basic blocks."""
  if depth < 8 or (depth - 2) % 6:
    raise ValueError(f"depth must be 6 n + 2 with n >= 1, got {depth}")
  return functools.partial(ResNet, stage_sizes=((depth - 2) // 6,) * 3)


_IMAGENET = {"widths": (64, 128, 256, 512), "classes": 1000, "stem": "imagenet"}
resnet18 = functools.partial(ResNet, stage_sizes=(2, 2, 2, 2), **_IMAGENET)
resnet50 = functools.partial(ResNet, stage_sizes=(3, 4, 6, 3), bottleneck=True, **_IMAGENET)
