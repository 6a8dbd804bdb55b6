"""Packing and unpacking in JAX, under jit: `bitpack`, `activations` and `weights` once more.

Inputs are not checked here; what reads a file or a caller's arrays does that.
"""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8

from hetjax.pack.layout import ChannelLayout
from hetjax.pack.weights import PackedWeights


def pack_bits(codes: UInt8[Array, "*b n"], bits: int, align: int = 1) -> UInt8[Array, "*b bytes"]:
  """Codes to bytes, least significant bits first, zero-padded to a multiple of `align` bytes."""
  per_byte = 8 // bits
  n = codes.shape[-1]
  size = -(-n // (per_byte * align)) * align
  codes = jnp.pad(codes, [(0, 0)] * (codes.ndim - 1) + [(0, size * per_byte - n)])
  codes = codes.reshape(*codes.shape[:-1], size, per_byte).astype(jnp.uint8)
  shifts = jnp.arange(0, 8, bits, dtype=jnp.uint8)
  return jnp.sum(jnp.left_shift(codes, shifts), axis=-1, dtype=jnp.uint8)


def unpack_bits(data: UInt8[Array, "*b bytes"], bits: int) -> UInt8[Array, "*b n"]:
  """All codes held in bytes, least significant bits first; inverse of `pack_bits`."""
  shifts = jnp.arange(0, 8, bits, dtype=jnp.uint8)
  codes = jnp.bitwise_and(jnp.right_shift(data[..., None], shifts), jnp.uint8((1 << bits) - 1))
  return codes.reshape(*data.shape[:-1], data.shape[-1] * (8 // bits))


def unpack_activations(a: UInt8[Array, "*b r"], layout: ChannelLayout) -> UInt8[Array, "*b c"]:
  """Codes in channel order from activation records."""
  parts, start = [], 0
  for level, count in layout.counts.items():
    size = layout.segment_bytes(level)
    parts.append(unpack_bits(a[..., start : start + size], level)[..., :count])
    start += size
  return jnp.concatenate(parts, axis=-1)[..., np.argsort(layout.order)]


def unpack_weights(weights: PackedWeights) -> UInt8[Array, "kh kw cg n"]:
  """Codes of weights in file storage."""
  kh, kw, cg, n = weights.kernel_shape
  layout, groups = weights.layout, weights.layout.groups
  if groups > 1:
    index, shift, mask = _grouped_positions(layout, weights.kernel_shape)
    codes = jnp.bitwise_and(jnp.right_shift(weights.codes[index], shift), mask)
    return codes.reshape(kh, kw, cg, n)
  parts, start = [], 0
  for level, count in layout.counts.items():
    row = (kh * kw * count * level + 7) // 8
    segment = weights.codes[start : start + n * row].reshape(n, row)
    codes = unpack_bits(segment, level)[:, : kh * kw * count]
    parts.append(codes.reshape(n, kh, kw, count))
    start += n * row
  codes = jnp.concatenate(parts, axis=-1)[..., np.argsort(layout.order)]
  return codes.transpose(1, 2, 3, 0)


@functools.lru_cache(maxsize=64)
def _grouped_positions(layout: ChannelLayout, kernel_shape: tuple[int, int, int, int]):
  """Byte, shift and mask of every weight of a grouped layer, in kernel order.

  Rows of different groups differ in length, so positions are computed weight by weight; grouped
  kernels are small.
  """
  kh, kw, cg, n = kernel_shape
  taps, groups = kh * kw, layout.groups
  bits = np.asarray(layout.bits, np.int64).reshape(groups, cg)
  index = np.zeros((taps, cg, n), np.int32)
  shift = np.zeros((taps, cg, n), np.uint8)
  mask = np.zeros((taps, cg, n), np.uint8)
  start = 0
  for level in layout.palette.descending:
    member = bits == level
    count = member.sum(axis=1)
    rank = np.cumsum(member, axis=1) - 1
    row_bytes = np.repeat((taps * count * level + 7) // 8, n // groups)
    row_start = start + np.concatenate([[0], np.cumsum(row_bytes)])
    start = int(row_start[-1])
    group = np.arange(n) // (n // groups)
    position = (np.arange(taps)[:, None, None] * count[group] + rank[group].T[None]) * level
    here = np.broadcast_to(member[group].T[None], index.shape)
    index = np.where(here, row_start[:-1] + position // 8, index)
    shift = np.where(here, position % 8, shift)
    mask = np.where(here, (1 << level) - 1, mask)
  return index.astype(np.int32), shift.astype(np.uint8), mask.astype(np.uint8)
