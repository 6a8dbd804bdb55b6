"""Rows of small integers to rows of bytes and back, least significant bits first (NumPy)."""

from __future__ import annotations

import numpy as np


def pack_rows(codes: np.ndarray, bits: int) -> np.ndarray:
  """Packs the last axis, `bits` bits a code, padded with zero bits to whole bytes.

  Args:
    codes: uint8[*b, m], every code below `2^bits` (not checked).
    bits: 1, 2, 4 or 8.

  Returns:
    uint8[*b, ceil(m * bits / 8)].
  """
  if bits == 8:
    return np.ascontiguousarray(codes)
  if bits == 1:
    return np.packbits(codes, axis=-1, bitorder="little")
  per_byte = 8 // bits
  count = codes.shape[-1]
  whole = -(-count // per_byte)
  if count != whole * per_byte:
    padding = [(0, 0)] * (codes.ndim - 1) + [(0, whole * per_byte - count)]
    codes = np.pad(codes, padding)
  lanes = codes.reshape(*codes.shape[:-1], whole, per_byte)
  out = lanes[..., 0].copy()
  for lane in range(1, per_byte):
    out |= lanes[..., lane] << np.uint8(bits * lane)
  return out


def unpack_rows(packed: np.ndarray, bits: int, count: int) -> np.ndarray:
  """The first `count` codes of every packed row; inverse of `pack_rows`.

  Args:
    packed: uint8[*b, ceil(count * bits / 8)].
    bits: 1, 2, 4 or 8.
    count: Codes in a row.

  Returns:
    uint8[*b, count].
  """
  if bits == 8:
    return packed[..., :count]
  if bits == 1:
    return np.unpackbits(packed, axis=-1, count=count, bitorder="little")
  shifts = np.arange(0, 8, bits, dtype=np.uint8)
  lanes = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
  return lanes.reshape(*packed.shape[:-1], packed.shape[-1] * shifts.size)[..., :count]
