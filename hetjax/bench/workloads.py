"""What is benchmarked: layer shapes and mixes of precisions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from hetjax.bench.graph import Builder, Graph
from hetjax.core import Palette
from hetjax.pack import ChannelLayout


@dataclasses.dataclass(frozen=True)
class ConvSpec:
  """A convolution with a bias and ReLU on one image, equal padding of half the kernel.

  Attributes:
    name: As tables print it.
    size: Height and width of the input.
    channels: Of the input.
    outputs: Channels of the output.
    kernel: Height and width of the kernel.
    strides: Of the window.
    groups: Feature group count.
    image: Whether the input is a float32 image (signed, 8 bits) instead of packed activations.
  """

  name: str
  size: int
  channels: int
  outputs: int
  kernel: int = 3
  strides: int = 1
  groups: int = 1
  image: bool = False

  @property
  def padding(self) -> int:
    return self.kernel // 2

  @property
  def out_size(self) -> int:
    return (self.size + 2 * self.padding - self.kernel) // self.strides + 1

  @property
  def kernel_shape(self) -> tuple[int, int, int, int]:
    return (self.kernel, self.kernel, self.channels // self.groups, self.outputs)

  @property
  def macs(self) -> int:
    """Multiply-accumulates, borders counted as interior."""
    return int(np.prod(self.kernel_shape)) * self.out_size**2

  @property
  def chains(self) -> bool:
    """Whether the output has the input's shape, so that the layer can follow itself."""
    return self.channels == self.outputs and self.strides == 1 and not self.image


@dataclasses.dataclass(frozen=True)
class MatvecSpec:
  """A dense layer on a few vectors.

  Attributes:
    name: As tables print it.
    batch: Vectors at a time.
    channels: Of the input.
    outputs: Of the output.
  """

  name: str
  batch: int
  channels: int = 4096
  outputs: int = 4096

  @property
  def macs(self) -> int:
    return self.batch * self.channels * self.outputs


CONVS = (
  ConvSpec("3x3 56x56x64", 56, 64, 64),
  ConvSpec("3x3 28x28x128", 28, 128, 128),
  ConvSpec("3x3 14x14x256", 14, 256, 256),
  ConvSpec("3x3 7x7x512", 7, 512, 512),
  ConvSpec("1x1 14x14x1024 to 256", 14, 1024, 256, kernel=1),
  ConvSpec("1x1 56x56x64 to 256", 56, 64, 256, kernel=1),
  ConvSpec("depthwise 3x3 28x28x192", 28, 192, 192, groups=192),
  ConvSpec("7x7 stride 2 224x224x3 to 64", 224, 3, 64, kernel=7, strides=2, image=True),
)
MATVECS = tuple(MatvecSpec(f"4096x4096, batch {b}", b) for b in (1, 2, 3, 4))

# Shares of channels by level. The first is the one that claims are made for.
MIXES: dict[str, Mapping[int, float]] = {
  "60/30/10": {1: 0.6, 2: 0.3, 4: 0.1},
  "1-bit": {1: 1.0},
  "2-bit": {2: 1.0},
  "4-bit": {4: 1.0},
  "8-bit": {8: 1.0},
}


def bits_of(mix: Mapping[int, float], channels: int) -> np.ndarray:
  """Levels of channels in the shares of a mix, highest first; int32[channels].

  Counts are the nearest that add up, ties in favour of fewer bits. Channels of a level stand
  together.
  """
  exact = {p: share * channels for p, share in mix.items()}
  counts = {p: int(value) for p, value in exact.items()}
  by_remainder = sorted(mix, key=lambda p: (round(counts[p] - exact[p], 6), p))
  for p in by_remainder[: channels - sum(counts.values())]:
    counts[p] += 1
  levels = sorted(counts, reverse=True)
  return np.repeat(np.array(levels, np.int32), [counts[p] for p in levels])


def layout_of(mix: Mapping[int, float], channels: int, groups: int = 1) -> ChannelLayout:
  """The packed layout of channels in the shares of a mix, with no other levels in the palette."""
  bits = bits_of(mix, channels)
  levels = tuple(sorted(int(p) for p in np.unique(bits)))
  return ChannelLayout(tuple(int(b) for b in bits), Palette(levels), groups)


def conv_input(spec: ConvSpec, seed: int = 0) -> np.ndarray:
  """A normal image, or the ReLU of one; float32[1, size, size, channels]."""
  shape = (1, spec.size, spec.size, spec.channels)
  x = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
  return x if spec.image else np.maximum(x, 0)


def conv_graph(spec: ConvSpec, layers: int = 1, seed: int = 1) -> Graph:
  """The layer as float32 peers run it, `layers` times in a row with the same random weights."""
  rng = np.random.default_rng(seed)
  fan_in = int(np.prod(spec.kernel_shape[:3]))
  kernel = (rng.normal(size=spec.kernel_shape) * np.sqrt(2 / fan_in)).astype(np.float32)
  bias = (0.1 * rng.normal(size=spec.outputs)).astype(np.float32)
  builder = Builder((1, spec.size, spec.size, spec.channels))
  x = builder.input
  for _ in range(layers):
    x = builder.conv(
      x,
      kernel,
      bias,
      strides=spec.strides,
      padding=spec.padding,
      groups=spec.groups,
      activation="relu",
    )
  return builder.graph(layers)


def matvec_kernel(spec: MatvecSpec, seed: int = 1) -> Float[np.ndarray, "c n"]:
  """Random weights of the dense layer; the batch makes no difference."""
  kernel = np.random.default_rng(seed).normal(size=(spec.channels, spec.outputs))
  return (kernel / np.sqrt(spec.channels)).astype(np.float32)


def matvec_graph(spec: MatvecSpec, kernel: Float[np.ndarray, "c n"]) -> Graph:
  """The dense layer with these weights as float32 peers run it."""
  builder = Builder((spec.batch, spec.channels))
  builder.dense(builder.input, kernel, np.zeros(spec.outputs, np.float32))
  return builder.graph()
