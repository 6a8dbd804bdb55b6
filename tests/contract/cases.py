"""Cases of the contract suite, the same for every backend."""

from __future__ import annotations

import dataclasses
import itertools
import zlib

import numpy as np

from hetjax.core import Palette
from hetjax.pack import ChannelLayout, PackedWeights, pack_activations, pack_weights

LEVELS = (1, 2, 4, 8)
PALETTES = [c for n in (1, 2, 3) for c in itertools.combinations(LEVELS, n)]


@dataclasses.dataclass(frozen=True)
class Case:
  """A convolution on random codes.

  Attributes:
    palette: Levels of the palette.
    mix: Levels that occur; the palette's others are empty segments.
    signed: Of the activations.
    shape: (batch, height, width, channels).
    kernel: (height, width, outputs).
    groups: Feature groups.
    strides: Window strides.
    padding: ((top, bottom), (left, right)).
    dilation: Kernel dilation.
    codes: "random", or "extreme" for the codes with the largest products.
  """

  palette: tuple[int, ...]
  mix: tuple[int, ...]
  signed: bool
  shape: tuple[int, int, int, int]
  kernel: tuple[int, int, int]
  groups: int = 1
  strides: tuple[int, int] = (1, 1)
  padding: tuple[tuple[int, int], tuple[int, int]] = ((1, 1), (1, 1))
  dilation: tuple[int, int] = (1, 1)
  codes: str = "random"

  def __str__(self) -> str:
    show = lambda v: "x".join(map(str, v))
    pads = "".join(map(str, itertools.chain(*self.padding)))
    return (
      f"p{show(self.palette)}-m{show(self.mix)}-{'s' if self.signed else 'u'}-{show(self.shape)}"
      f"-k{show(self.kernel)}-g{self.groups}-s{show(self.strides)}-p{pads}-d{show(self.dilation)}"
    )

  @property
  def geometry(self) -> dict:
    """Keyword arguments of `ops.packed_conv`."""
    return {
      "signed": self.signed,
      "strides": self.strides,
      "padding": self.padding,
      "kernel_dilation": self.dilation,
    }

  def operands(self) -> tuple[np.ndarray, PackedWeights]:
    """Activation records and packed weights; the same on every call."""
    rng = np.random.default_rng(zlib.crc32(str(self).encode()))
    channels, outputs = self.shape[3], self.kernel[2]
    bits = rng.choice(self.mix, channels)
    bits[: len(self.mix)] = self.mix[:channels]  # every level occurs where there is room
    layout = ChannelLayout(tuple(int(b) for b in bits), Palette(self.palette), self.groups)
    top = (1 << bits) - 1
    per_group = channels // self.groups
    weight_top = np.repeat(top.reshape(self.groups, per_group).T, outputs // self.groups, axis=1)
    weight_shape = (*self.kernel[:2], per_group, outputs)
    if self.codes == "extreme":
      a = np.broadcast_to(top, self.shape)
      w = np.broadcast_to(weight_top * (np.arange(outputs) % 2), weight_shape)
    else:
      a = rng.integers(0, top + 1, self.shape)
      w = rng.integers(0, np.broadcast_to(weight_top, weight_shape) + 1)
    records = pack_activations(a.astype(np.uint8), layout)
    return records, pack_weights(w.astype(np.uint8), layout)


def mixes() -> list[Case]:
  """Every palette with every choice of occurring levels, signed and unsigned."""
  cases = []
  for palette in PALETTES:
    for n in range(1, len(palette) + 1):
      for mix in itertools.combinations(palette, n):
        for signed in (True, False):
          cases.append(Case(palette, mix, signed, (2, 5, 7, 13), (3, 3, 5)))
  return cases


def geometries() -> list[Case]:
  """Kernels, strides, dilations and paddings on odd images, drawn evenly from their product."""
  kernels = ((1, 1), (3, 3), (5, 5), (7, 7), (3, 1), (2, 4))
  strides = ((1, 1), (2, 2), (1, 2), (3, 2))
  paddings = (((0, 0), (0, 0)), ((1, 1), (1, 1)), ((2, 1), (0, 3)), ((4, 4), (4, 4)))
  dilations = ((1, 1), (2, 2), (1, 3))
  product = list(itertools.product(kernels, strides, paddings, dilations, (True, False)))
  cases = []
  for i, (kernel, stride, padding, dilation, signed) in enumerate(product[::5]):
    extent = [d * (k - 1) + 1 - sum(p) for d, k, p in zip(dilation, kernel, padding, strict=True)]
    image = (max(9, extent[0]), max(11, extent[1]))
    palette = ((1, 2, 4), (2, 4, 8), (1, 8), (4,))[i % 4]
    shape = (1 + i % 2, *image, (6, 33, 1, 10)[i % 4])
    cases.append(
      Case(
        palette,
        palette,
        signed,
        shape,
        (*kernel, 70 if i % 7 == 0 else 3),
        1,
        stride,
        padding,
        dilation,
      )
    )
  return cases


def grouped() -> list[Case]:
  """Grouped and depthwise layers, with multipliers."""
  cases = []
  for channels, groups, outputs in ((6, 2, 4), (12, 3, 6), (32, 4, 136), (5, 5, 5), (40, 40, 80)):
    for palette in ((1, 2, 4), (2, 4, 8), (1,), (8,)):
      for signed in (True, False):
        for stride in ((1, 1), (2, 2)):
          cases.append(
            Case(palette, palette, signed, (2, 6, 5, channels), (3, 3, outputs), groups, stride)
          )
  return cases


def channel_counts() -> list[tuple[int, ...]]:
  """Channel counts 1 .. 130 in runs, and some large ones."""
  runs = [tuple(range(i, min(i + 13, 131))) for i in range(1, 131, 13)]
  return [*runs, (256, 509), (1024,), (2000,)]


def extremes() -> list[Case]:
  """Sums as close to their ends as the levels' steps allow.

  Of matrix products int32's, of depthwise layers the 16 bits that a kernel may add in.
  """
  flat = {"padding": ((0, 0), (0, 0)), "codes": "extreme"}
  limit = 2**31 - 1
  cases = []
  for palette, mix in (
    ((8,), (8,)),
    ((1, 8), (1,)),
    ((2, 8), (2,)),
    ((4, 8), (4,)),
    ((1, 2, 4), (1, 2, 4)),
    ((1, 2, 8), (1, 2, 8)),
  ):
    largest = max((2**p - 1) ** 2 * 4 ** (palette[-1] - p) for p in mix)
    channels = min(limit // largest, 40_000)
    for signed in (True, False):
      cases.append(Case(palette, mix, signed, (1, 1, 2, channels), (1, 1, 3), **flat))
  for kernel in ((5, 29), (2, 73), (13, 13)):  # 145 taps, 146 and more
    for palette in ((4,), (1, 2, 4)):
      cases.append(Case(palette, palette, False, (1, *kernel, 40), (*kernel, 40), 40, **flat))
  return cases
