"""How a layer's channels lie for the matrix kernels: segments of columns, in blocks of slots.

The kernels multiply int8 by int8 with int32 sums. A weight is its code, as it is packed; an
activation is its integer level, one byte a channel, unpacked before. With `m = 2^p - 1`

    sum_k a_k q_k = 2 sum_k a_k u_k - m sum_k a_k,      q_k = 2 u_k - m,

so the codes need no arithmetic, and what is missing depends on the activations alone. At 8 bits
the code is `c = u - 128`, whose m is -1, and a level, which has nine bits, is the two columns
`a = 2 (a >> 1) + (a & 1)`. A column of zeros contributes nothing, whatever the weight: that is
padding, of channels and of images.

All segments share one sum, unless it might saturate: the one whose products count most is first,
and before the next one the sum is shifted by as much as the products count less.

A byte of weights holds `8 / p` codes. They belong to channels `width` apart, so that one mask or
one shift and mask of a 32-bit word yields the codes of four neighbours: slot j of column r of block
b is channel `(b * 8 / p + j) * width + r` of the segment.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from hetjax.pack.layout import ChannelLayout

TRITON, MOSAIC = "triton", "mosaic_gpu"  # implementations, and the storages that they read
# Of a tile of weights, in bytes, for each level; the widest that fits serves. A matrix instruction
# takes 32; shared memory that Hopper's read has rows of 128. Of few bits, as many codes as wider
# tiles hold spill registers, or do not fit into the shared memory of the smaller GPUs.
_ANY = (128, 64, 32)
WIDTHS = {
  TRITON: {1: (32,), 2: (32,), 4: _ANY, 8: _ANY},
  MOSAIC: dict.fromkeys((1, 2, 4, 8), (128,)),
}


@dataclasses.dataclass(frozen=True)
class Segment:
  """Columns of one level, or of one half of the levels at 8 bits.

  Attributes:
    level: Bits of a code.
    channels: Real channels.
    width: Bytes of a tile of weights, and columns of a slot.
    start: First column in the matrix of activations.
    shift: Products count `2^shift` in the accumulator.
    high: Of 8 bits, whether the columns are `a >> 1` rather than `a & 1`.
  """

  level: int
  channels: int
  width: int
  start: int
  shift: int
  high: bool = False

  @property
  def offset(self) -> int:
    """The m of `q = 2 u - m`."""
    return -1 if self.level == 8 else (1 << self.level) - 1

  @property
  def slots(self) -> int:
    """Codes in a byte."""
    return 8 // self.level

  @property
  def columns(self) -> int:
    """Columns, those of padding included."""
    return -(-self.channels // self.width) * self.width

  @property
  def blocks(self) -> int:
    """Blocks all of whose slots are in use."""
    return self.columns // (self.width * self.slots)

  @property
  def rest(self) -> int:
    """Slots in use of one more block, 0 if there is none."""
    return self.columns // self.width - self.blocks * self.slots

  @property
  def tap_bytes(self) -> int:
    """Bytes of weights of one tap and output channel."""
    return (self.blocks + bool(self.rest)) * self.width


@functools.lru_cache(maxsize=256)
def segments(layout: ChannelLayout, storage: str) -> tuple[Segment, ...]:
  """The segments of a layer without groups in a storage, those that count most first."""
  found, start = [], 0
  for level in layout.palette.levels:
    count = layout.counts[level]
    if not count:
      continue
    # Twice the width, so that the loads of one tile overlap the products of another.
    widths = WIDTHS[storage][level]
    width = next((w for w in widths if 2 * w <= count * level // 8), widths[-1])
    shift = 2 * (layout.palette.pmax - level)
    for high in (True, False) if level == 8 else (False,):
      segment = Segment(level, count, width, start, shift + high, high)
      found.append(segment)
      start += segment.columns
  return tuple(found)


def columns(layout: ChannelLayout, storage: str) -> int:
  """Columns of the matrix of activations."""
  return sum(segment.columns for segment in segments(layout, storage))


def largest_sum(segments: Sequence[Segment], taps: int) -> int:
  """The largest magnitude that a sum of levels times codes may have, whatever these are."""
  total = 0
  for segment in segments:
    level, code = ((1 << segment.level) - 1,) * 2
    if segment.level == 8:
      level, code = 128 if segment.high else 1, 128
    total += taps * segment.channels * level * code << segment.shift
  return total
