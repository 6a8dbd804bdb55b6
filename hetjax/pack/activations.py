"""Activation records in NumPy, the reference of `hetjax.ops.quantize_pack`.

A record holds one position's codes: a segment a level, highest first; in a segment the codes of
its channels in ascending order, least significant bits first, padded with zero bits to 32-bit
little-endian words.
"""

from __future__ import annotations

import numpy as np

from hetjax.pack.bitpack import pack_rows, unpack_rows
from hetjax.pack.layout import ChannelLayout


def pack_activations(codes: np.ndarray, layout: ChannelLayout) -> np.ndarray:
  """Packs activation codes.

  Args:
    codes: Integer [*b, C], each below `2^bits` of its channel.
    layout: Levels of the channels.

  Returns:
    uint8[*b, layout.record_bytes].

  Raises:
    ValueError: wrong dtype or channel count, or a code that exceeds its level.
  """
  codes = np.asarray(codes)
  if not np.issubdtype(codes.dtype, np.integer):
    raise ValueError(f"activation codes must be integers, got {codes.dtype}")
  if codes.ndim < 1 or codes.shape[-1] != layout.channels:
    raise ValueError(f"activation codes must be [*b, {layout.channels}], got {list(codes.shape)}")
  wrong = np.argwhere((codes < 0) | (codes >> layout.bits_array != 0))
  if wrong.size:
    k = int(wrong[0, -1])
    raise ValueError(
      f"activation codes of channel {k} must fit in {layout.bits[k]} bits, "
      f"got {int(codes[tuple(wrong[0])])}"
    )
  out = np.zeros((*codes.shape[:-1], layout.record_bytes), np.uint8)
  for level in layout.palette.descending:
    packed = pack_rows(codes[..., layout.channels_of(level)].astype(np.uint8), level)
    start = layout.segment_offset(level)
    out[..., start : start + packed.shape[-1]] = packed
  return out


def unpack_activations(records: np.ndarray, layout: ChannelLayout) -> np.ndarray:
  """Codes uint8[*b, C] of records uint8[*b, record_bytes]; inverse of `pack_activations`.

  Raises:
    ValueError: wrong dtype or record size.
  """
  records = np.asarray(records)
  if records.dtype != np.uint8 or records.shape[-1:] != (layout.record_bytes,):
    raise ValueError(
      f"records must be uint8[*b, {layout.record_bytes}], got {records.dtype}{list(records.shape)}"
    )
  out = np.zeros((*records.shape[:-1], layout.channels), np.uint8)
  for level in layout.palette.descending:
    channels = layout.channels_of(level)
    start = layout.segment_offset(level)
    used = -(-channels.size * level // 8)
    segment = np.ascontiguousarray(records[..., start : start + used])
    out[..., channels] = unpack_rows(segment, level, channels.size)
  return out
