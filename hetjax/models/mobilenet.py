"""MobileNetV2 (Sandler et al., 2018, arXiv 1801.04381): inverted residuals, linear bottlenecks.

First convolution and classifier are pinned at 8 bits; every other layer learns its precisions.
Bottlenecks are linear, so what reads one is signed; what reads a ReLU6's output is unsigned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from hetjax import nn as hnn
from hetjax.core import Palette
from hetjax.models.parts import conv_and_norm

Stage = tuple[int, int, int, int]
STAGES = (
  (1, 16, 1, 1),
  (6, 24, 2, 2),
  (6, 32, 3, 2),
  (6, 64, 4, 2),
  (6, 96, 3, 1),
  (6, 160, 3, 2),
  (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
  """1x1 expansion, 3x3 depthwise, 1x1 linear projection; a shortcut where the shape stays."""

  expansion: int
  features: int
  strides: int
  signed: bool
  conv: Callable
  norm: Callable

  @nn.compact
  def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b ho wo n"]:
    inner = self.expansion * x.shape[-1]
    y, signed = x, self.signed
    if self.expansion > 1:
      y = self.conv(inner, 1, signed=signed, name="expand")(y)
      y, signed = nn.relu6(self.norm(name="expand_norm")(y)), False
    y = self.conv(
      inner, 3, self.strides, padding=1, feature_group_count=inner, signed=signed, name="depthwise"
    )(y)
    y = nn.relu6(self.norm(name="depthwise_norm")(y))
    y = self.norm(name="project_norm")(self.conv(self.features, 1, name="project")(y))
    return x + y if self.strides == 1 and x.shape[-1] == self.features else y


class MobileNetV2(nn.Module):
  """A network of inverted residuals over NHWC images.

  Attributes:
    stages: (expansion, channels, blocks, strides of the first block) per stage.
    width: Multiplier of all channels, each rounded to a multiple of 8; the last convolution's are
      never fewer than `last_features`.
    classes: Outputs.
    stem_features: Channels of the first convolution, before `width`.
    stem_strides: Its strides: 2 for photographs, 1 for small images.
    last_features: Channels of the last convolution, before `width`.
    palette: Levels of the layers that are not pinned.
    pinned_bits: Level of first convolution and classifier.
  """

  stages: Sequence[Stage] = STAGES
  width: float = 1.0
  classes: int = 1000
  stem_features: int = 32
  stem_strides: int = 2
  last_features: int = 1280
  palette: Palette = Palette()
  pinned_bits: int = 8

  @property
  def blocks(self) -> int:
    """Blocks that a call runs."""
    return sum(count for _, _, count, _ in self.stages)

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b h w c"],
    *,
    mode: str = "float",
    train: bool = False,
    implementation: str | None = None,
  ) -> Float[Array, "b classes"]:
    """Logits; arguments as those of `ResNet`."""
    if not self.stages or any(len(s) != 4 or min(s) < 1 for s in self.stages):
      raise ValueError(
        "stages must be one or more (expansion, channels, blocks, strides), all positive, "
        f"got {self.stages}"
      )
    if not self.width > 0:
      raise ValueError(f"width must be positive, got {self.width}")
    common = {"palette": self.palette, "mode": mode, "implementation": implementation}
    conv, norm = conv_and_norm(common, train)
    features = scaled(self.stem_features, self.width)
    x = conv(
      features,
      3,
      self.stem_strides,
      padding=1,
      signed=True,
      pinned_bits=self.pinned_bits,
      name="stem_conv",
    )(x)
    x, signed = nn.relu6(norm(name="stem_norm")(x)), False
    for stage, (expansion, channels, count, strides) in enumerate(self.stages):
      features = scaled(channels, self.width)
      for index in range(count):
        x = InvertedResidual(
          expansion,
          features,
          strides if index == 0 else 1,
          signed,
          conv,
          norm,
          name=f"stage{stage}_block{index}",
        )(x)
        signed = True
    features = scaled(self.last_features, max(1.0, self.width))
    x = nn.relu6(norm(name="last_norm")(conv(features, 1, signed=True, name="last_conv")(x)))
    x = jnp.mean(x, axis=(1, 2))
    return hnn.Dense(self.classes, pinned_bits=self.pinned_bits, name="head", **common)(x)


def scaled(channels: int, width: float) -> int:
  """`channels * width` as the nearest multiple of 8, at least 8 and no less than 90 % of it."""
  rounded = max(8, int(channels * width + 4) // 8 * 8)
  return rounded + 8 if rounded < 0.9 * channels * width else rounded
