"""Packed weights of one layer in the device-independent layout of docs/arithmetic.md.

Segments highest level first; in a segment one row an output channel; a row holds its (tap, channel)
codes least significant bits first, over the channels of that level in the output channel's group,
padded with zero bits to a whole byte.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from hetjax.pack.bitpack import pack_rows, unpack_rows
from hetjax.pack.layout import ChannelLayout

KernelShape = tuple[int, int, int, int]


@dataclasses.dataclass(frozen=True, eq=False)
class PackedWeights:
  """Weight codes of one layer, packed; a pytree whose only leaves are arrays.

  Attributes:
    codes: uint8[bytes]. In storage "file" the layout described above; otherwise an implementation's
      own (`hetjax.ops.prepare_weights`), which never reaches a file.
    layout: Levels and groups of the input channels (static).
    kernel_shape: `(kh, kw, channels // groups, out_channels)`, `kh = kw = 1` for a dense layer
      (static).
    storage: "file" or the name of the implementation that laid the codes out (static).
    corrections: What that implementation precomputed from the weights; None in storage "file".
  """

  codes: Any
  layout: ChannelLayout
  kernel_shape: KernelShape
  storage: str = "file"
  corrections: Any = None


jax.tree_util.register_dataclass(
  PackedWeights,
  data_fields=("codes", "corrections"),
  meta_fields=("layout", "kernel_shape", "storage"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class _Block:
  """Rows of one level whose groups have equally many channels of it.

  Attributes:
    level: Bits of a code.
    groups: int[g], the groups.
    channels: int[g, m], the level's channels within each group, counted from the group's first.
    starts: int64[g, N // groups], first byte of every row.
    row_bits: Bits of a row without its padding.
  """

  level: int
  groups: np.ndarray
  channels: np.ndarray
  starts: np.ndarray
  row_bits: int

  @property
  def row_bytes(self) -> int:
    return -(-self.row_bits // 8)

  @property
  def byte_index(self) -> np.ndarray:
    return self.starts[..., None] + np.arange(self.row_bytes)


def check_kernel_shape(kernel_shape: KernelShape, layout: ChannelLayout) -> KernelShape:
  """`kernel_shape` as ints.

  Raises:
    ValueError: not four positive sizes, or at odds with the layout's channels and groups.
  """
  shape = tuple(int(n) for n in kernel_shape)
  if len(shape) != 4 or min(shape) < 1:
    raise ValueError(f"kernel shape must be four positive sizes (kh, kw, Cg, N), got {shape}")
  per_group = layout.channels // layout.groups
  if shape[2] != per_group:
    raise ValueError(
      f"kernel shape {shape} must have {per_group} channels a group ({layout.channels} channels in "
      f"{layout.groups} groups), got {shape[2]}"
    )
  if shape[3] % layout.groups:
    raise ValueError(
      f"output channels must be a multiple of the {layout.groups} groups, got {shape[3]}"
    )
  return shape


def weight_bytes(layout: ChannelLayout, kernel_shape: KernelShape) -> int:
  """Bytes of a layer's packed weights in storage "file"."""
  kernel_shape = check_kernel_shape(kernel_shape, layout)
  rows, taps = kernel_shape[3] // layout.groups, kernel_shape[0] * kernel_shape[1]
  return sum(
    rows * int(((taps * p * _channels_per_group(layout, p) + 7) // 8).sum())
    for p in layout.palette.levels
  )


def pack_weights(codes: np.ndarray, layout: ChannelLayout) -> PackedWeights:
  """Packs a layer's weight codes.

  Args:
    codes: Integer [kh, kw, Cg, N], each below `2^bits` of its input channel.
    layout: Levels and groups of the layer's input channels.

  Returns:
    The weights in storage "file", `codes` a NumPy array.

  Raises:
    ValueError: `codes` is not an integer array of a fitting shape, or a code exceeds its level.
  """
  codes = _checked_codes(codes, layout)
  grouped = _by_group(codes, layout)
  out = np.zeros(weight_bytes(layout, codes.shape), np.uint8)
  for block in _blocks(layout, codes.shape):
    # The two index arrays are apart, so their axes come first: [g, m, rows, taps].
    part = grouped[block.groups[:, None], :, :, block.channels].transpose(0, 2, 3, 1)
    flat = part.reshape(*block.starts.shape, -1)
    out[block.byte_index] = pack_rows(flat, block.level)
  return PackedWeights(out, layout, codes.shape)


def unpack_weights(weights: PackedWeights) -> np.ndarray:
  """Codes of packed weights, the exact inverse of `pack_weights`.

  Args:
    weights: Weights in storage "file".

  Returns:
    uint8[kh, kw, Cg, N].

  Raises:
    ValueError: another storage, or the byte count is not what layout and shape ask for.
  """
  packed = _file_bytes(weights)
  out = np.zeros(weights.kernel_shape, np.uint8)
  grouped = _by_group(out, weights.layout)
  taps = out.shape[0] * out.shape[1]
  for block in _blocks(weights.layout, weights.kernel_shape):
    rows = packed[block.byte_index]
    flat = unpack_rows(rows, block.level, block.row_bits // block.level)
    part = flat.reshape(*block.starts.shape, taps, -1)
    grouped[block.groups[:, None], :, :, block.channels] = part.transpose(0, 3, 1, 2)
  return out


def first_nonzero_pad(weights: PackedWeights) -> int | None:
  """Offset of the first byte whose pad bits are not all zero, or None if all of them are.

  Raises:
    ValueError: as `unpack_weights`.
  """
  packed = _file_bytes(weights)
  found = []
  for block in _blocks(weights.layout, weights.kernel_shape):
    used = block.row_bits % 8
    if used:
      last = block.starts.ravel() + (block.row_bytes - 1)
      found.extend(last[(packed[last] >> used) != 0][:1].tolist())
  return min(found, default=None)


def _by_group(codes: np.ndarray, layout: ChannelLayout) -> np.ndarray:
  """A view [groups, N // groups, taps, Cg] of contiguous codes [kh, kw, Cg, N]."""
  kh, kw, per_group, outputs = codes.shape
  view = codes.reshape(kh * kw, per_group, layout.groups, outputs // layout.groups)
  return view.transpose(2, 3, 0, 1)


def _channels_per_group(layout: ChannelLayout, level: int) -> np.ndarray:
  return np.count_nonzero(layout.bits_array.reshape(layout.groups, -1) == level, axis=1)


def _blocks(layout: ChannelLayout, kernel_shape: KernelShape) -> Iterator[_Block]:
  """The rows of all segments, batched so that no loop runs over rows or groups."""
  taps, rows = kernel_shape[0] * kernel_shape[1], kernel_shape[3] // layout.groups
  bits = layout.bits_array.reshape(layout.groups, -1)
  base = 0
  for level in layout.palette.descending:
    mine = bits == level
    counts = np.count_nonzero(mine, axis=1).astype(np.int64)
    row_bytes = np.repeat((taps * counts * level + 7) // 8, rows)
    ends = base + np.cumsum(row_bytes)
    starts = (ends - row_bytes).reshape(layout.groups, rows)
    for count in np.unique(counts[counts > 0]).tolist():
      groups = np.flatnonzero(counts == count)
      channels = np.nonzero(mine[groups])[1].reshape(groups.size, count)
      yield _Block(level, groups, channels, starts[groups], taps * count * level)
    base = int(ends[-1])


def _checked_codes(codes: np.ndarray, layout: ChannelLayout) -> np.ndarray:
  """Contiguous uint8 codes [kh, kw, Cg, N] after checking shape, type and range."""
  codes = np.asarray(codes)
  if not np.issubdtype(codes.dtype, np.integer):
    raise ValueError(f"weight codes must be integers, got {codes.dtype}")
  shape = check_kernel_shape(codes.shape, layout)
  grouped = _by_group(np.ascontiguousarray(codes), layout)
  low, high = grouped.min(axis=(1, 2)), grouped.max(axis=(1, 2))  # [groups, Cg]
  top = (1 << layout.bits_array.reshape(layout.groups, -1)) - 1
  wrong = np.flatnonzero(((low < 0) | (high > top)).ravel())
  if wrong.size:
    k = int(wrong[0])
    raise ValueError(
      f"weight codes of input channel {k} must be 0 .. {int(top.ravel()[k])} "
      f"({layout.bits[k]} bits), got {int(low.ravel()[k])} .. {int(high.ravel()[k])}"
    )
  return np.ascontiguousarray(codes.astype(np.uint8)).reshape(shape)


def _file_bytes(weights: PackedWeights) -> np.ndarray:
  if weights.storage != "file":
    raise ValueError(f"weights must be in storage 'file', got {weights.storage!r}")
  packed = np.asarray(weights.codes)
  expected = weight_bytes(weights.layout, weights.kernel_shape)
  if packed.dtype != np.uint8 or packed.shape != (expected,):
    raise ValueError(f"weights must be uint8[{expected}], got {packed.dtype}{list(packed.shape)}")
  return packed
