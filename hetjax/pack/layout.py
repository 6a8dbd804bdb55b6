"""Where the channels of a quantized layer lie once packed: segments, highest level first.

A `ChannelLayout` is all that kernels and packers need to know about a layer's levels. It is static:
hashable, so that a jitted function may close over it or carry it in a pytree's structure.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from hetjax.core.palette import Palette

WORD_BYTES = 4


@dataclasses.dataclass(frozen=True)
class ChannelLayout:
  """Levels of a layer's input channels and the packed layout that follows from them.

  Attributes:
    bits: Level of every input channel, in the channels' own order.
    palette: The layer's levels; the accumulator counts in steps of the highest.
    groups: Feature group count; channel k belongs to group `k // (channels // groups)`.

  Raises:
    ValueError: no channels, a level that is not in the palette, or `groups` does not divide them.
  """

  bits: tuple[int, ...]
  palette: Palette
  groups: int = 1

  def __post_init__(self):
    bits = tuple(int(p) for p in self.bits)
    if not bits:
      raise ValueError("layout bits must hold at least one channel, got none")
    foreign = sorted(set(bits) - set(self.palette.levels))
    if foreign:
      raise ValueError(f"layout bits must use levels {self.palette.levels}, got {foreign}")
    if self.groups < 1 or len(bits) % self.groups:
      raise ValueError(f"layout groups must divide {len(bits)} channels, got {self.groups}")
    object.__setattr__(self, "bits", bits)
    object.__setattr__(self, "groups", int(self.groups))

  @property
  def channels(self) -> int:
    """Input channels C, all groups together."""
    return len(self.bits)

  @functools.cached_property
  def bits_array(self) -> np.ndarray:
    """Level of every channel, read-only int32[C]."""
    return _read_only(np.array(self.bits, np.int32))

  @functools.cached_property
  def order(self) -> np.ndarray:
    """Channels by level, highest first, ascending within a level; read-only int32[C]."""
    return _read_only(np.argsort(-self.bits_array, kind="stable").astype(np.int32))

  @property
  def counts(self) -> dict[int, int]:
    """Channels at each level of the palette, highest level first, zeros included."""
    return {p: int(np.count_nonzero(self.bits_array == p)) for p in self.palette.descending}

  def channels_of(self, level: int) -> np.ndarray:
    """Channels at `level`, ascending, int32[n_p]."""
    self._check_level(level)
    return np.flatnonzero(self.bits_array == level).astype(np.int32)

  def segment_bytes(self, level: int) -> int:
    """Bytes of the activation record's segment of `level`: whole 32-bit words, 0 if empty."""
    self._check_level(level)
    word_bits = 8 * WORD_BYTES
    return -(-self.counts[level] * level // word_bits) * WORD_BYTES

  def segment_offset(self, level: int) -> int:
    """First byte of the segment of `level` in an activation record."""
    self._check_level(level)
    return sum(self.segment_bytes(p) for p in self.palette.descending if p > level)

  @functools.cached_property
  def record_bytes(self) -> int:
    """Bytes R of one position's activation record."""
    return sum(self.segment_bytes(p) for p in self.palette.descending)

  def _check_level(self, level: int) -> None:
    if level not in self.palette.levels:
      raise ValueError(f"level must be one of {self.palette.levels}, got {level}")


def _read_only(array: np.ndarray) -> np.ndarray:
  array.setflags(write=False)
  return array
