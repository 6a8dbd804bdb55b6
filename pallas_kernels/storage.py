"""Weights and activations as the kernels read them, from the packed ones, in plain JAX."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Int, Int8, Int32, UInt8

from hetjax.core import quantize
from hetjax.pack import traced
from hetjax.pack.layout import ChannelLayout
from hetjax.pack.weights import PackedWeights, weight_bytes
from pallas_kernels.layout import MOSAIC, TRITON, Segment, segments

_LEAST_ROWS = 16  # of a matrix instruction's operand
ROWS = 64  # output channels of a tile


def padded_outputs(outputs: int, storage: str) -> int:
  """Output channels with those that fill up the last tile."""
  if storage == MOSAIC:
    return -(-outputs // ROWS) * ROWS
  small = next((n for n in (_LEAST_ROWS, 2 * _LEAST_ROWS) if outputs <= n), None)
  return small or -(-outputs // ROWS) * ROWS


def relayout(weights: PackedWeights, storage: str = TRITON) -> PackedWeights:
  """Weights in another storage.

  Args:
    weights: Weights in storage "file".
    storage: `TRITON` or `MOSAIC`.

  Returns:
    Weights whose codes are a tuple of int8[outputs, taps * tap_bytes], one per level that occurs,
    in the order of `layout.segments`, and whose corrections are the int32[outputs] sums of one-bit
    codes, or None without any; of a layer with groups the codes are int16[taps, channels, outputs],
    the levels scaled to the finest.

  Raises:
    ValueError: another storage, or the byte count does not fit.
  """
  if weights.storage != "file":
    raise ValueError(f"weights must be in storage 'file', got {weights.storage!r}")
  data = jnp.asarray(weights.codes)
  expected = (weight_bytes(weights.layout, weights.kernel_shape),)
  if data.dtype != jnp.uint8 or data.shape != expected:
    raise ValueError(f"weights must be uint8{list(expected)}, got {data.dtype}{list(data.shape)}")
  codes = traced.unpack_weights(dataclasses.replace(weights, codes=data))
  layout, corrections = weights.layout, None
  if layout.groups == 1 and layout.counts.get(1):
    corrections = jnp.sum(codes[:, :, layout.channels_of(1)], axis=(0, 1, 2), dtype=jnp.int32)
  laid = _grouped(codes, layout) if layout.groups > 1 else _by_level(codes, layout, storage)
  return dataclasses.replace(weights, codes=laid, storage=storage, corrections=corrections)


def _grouped(codes: UInt8[Array, "kh kw cg n"], layout: ChannelLayout) -> Array:
  kh, kw, cg, n = codes.shape
  bits = np.asarray(layout.bits, np.int32).reshape(layout.groups, cg).T
  bits = np.repeat(bits, n // layout.groups, axis=1)
  levels = quantize.accumulator_levels(codes, bits, layout.palette.pmax, signed=True)
  return levels.reshape(kh * kw, cg, n).astype(jnp.int16)


def _by_level(
  codes: UInt8[Array, "kh kw c n"], layout: ChannelLayout, storage: str
) -> tuple[Array, ...]:
  kh, kw, _, n = codes.shape
  rows = codes.transpose(3, 0, 1, 2).reshape(n, kh * kw, -1)
  rows = jnp.pad(rows, ((0, padded_outputs(n, storage) - n), (0, 0), (0, 0)))
  return tuple(
    _tiles(rows[..., layout.channels_of(s.level)], s)
    for s in segments(layout, storage)
    if not s.high
  )


def _tiles(codes: UInt8[Array, "n taps c"], segment: Segment) -> Int8[Array, "n bytes"]:
  """Codes of one level in blocks of slots."""
  n, taps, count = codes.shape
  whole = segment.tap_bytes * segment.slots
  codes = jnp.pad(codes, ((0, 0), (0, 0), (0, whole - count)))
  blocks = codes.reshape(n, taps, -1, segment.slots, segment.width)
  if segment.level == 8:
    packed = jnp.bitwise_xor(blocks, jnp.uint8(128))  # u - 128 in two's complement
  else:
    shifts = jnp.arange(0, 8, segment.level, dtype=jnp.uint8)[:, None]
    packed = jnp.left_shift(blocks, shifts)
  packed = jnp.sum(packed, axis=3, dtype=jnp.uint8)
  packed = packed.reshape(n, taps * segment.tap_bytes)
  return lax.bitcast_convert_type(packed, jnp.int8)


def expand(
  a: UInt8[Array, "*b r"], layout: ChannelLayout, signed: bool, storage: str
) -> tuple[Int8[Array, "*b columns"], Int32[Array, "*b"]]:
  """Records as the matrix of activations that the kernels read.

  Returns:
    The levels, a column each as `layout.segments` has them; and the sum of the levels, each times
    its segment's `offset * 2^shift`, which an accumulator of codes lacks.
  """
  parts, missing = [], jnp.zeros(a.shape[:-1], jnp.int32)
  for segment in segments(layout, storage):
    level = segment.level
    start = layout.segment_offset(level)
    data = a[..., start : start + layout.segment_bytes(level)]
    codes = traced.unpack_bits(data, level)[..., : segment.channels]
    levels = quantize.levels_of_codes(codes, level, signed=signed)
    if level == 8:
      levels = jnp.right_shift(levels, 1) if segment.high else jnp.bitwise_and(levels, 1)
    missing += jnp.sum(levels, axis=-1) * (segment.offset << segment.shift)
    padding = [(0, 0)] * (a.ndim - 1) + [(0, segment.columns - segment.channels)]
    parts.append(jnp.pad(levels.astype(jnp.int8), padding))
  return jnp.concatenate(parts, axis=-1), missing


def packed_bits(
  a: UInt8[Array, "*b r"], layout: ChannelLayout, storage: str
) -> Int8[Array, "*b bytes"] | None:
  """The one-bit channels of records in the order in which their weights lie; None without any."""
  if not layout.counts.get(1):
    return None
  (segment,) = (s for s in segments(layout, storage) if s.level == 1)
  start = layout.segment_offset(1)
  codes = traced.unpack_bits(a[..., start : start + layout.segment_bytes(1)], 1)
  codes = codes[..., : segment.channels].reshape(-1, 1, segment.channels)
  return _tiles(codes, segment).reshape(*a.shape[:-1], segment.tap_bytes)


def scaled_levels(
  a: UInt8[Array, "*b r"], layout: ChannelLayout, signed: bool
) -> Int[Array, "*b c"]:
  """Levels of records in the channels' own order, int16, scaled to the finest: for groups."""
  codes = traced.unpack_activations(a, layout)
  bits = layout.bits_array
  levels = quantize.accumulator_levels(codes, bits, layout.palette.pmax, signed=signed)
  return levels.astype(jnp.int16)
