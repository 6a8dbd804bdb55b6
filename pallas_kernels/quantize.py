"""Quantizing and packing activations: a thread makes whole bytes of a record."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Float, UInt8

from hetjax.core import quantize
from hetjax.pack.layout import ChannelLayout

_ROWS, _BYTES = 8, 64  # of a tile


def quantize_pack(
  x: Float[Array, "m c"],
  inv_beta: Float[Array, ""],
  *,
  layout: ChannelLayout,
  signed: bool,
  interpret: bool,
) -> UInt8[Array, "m r"]:
  """Records of float32 rows; see `hetjax.ops.quantize_pack`."""
  parts = []
  for level in layout.palette.descending:
    if layout.counts[level]:
      source = _sources(layout, level)
      parts.append(_segment(x, inv_beta, source, level, signed, interpret))
  return jnp.concatenate(parts, axis=-1)


def _sources(layout: ChannelLayout, level: int) -> np.ndarray:
  """The channel of every code of a level's segment, int32[codes in a byte, bytes]; -1 for none."""
  size, per_byte = layout.segment_bytes(level), 8 // level
  channels = layout.channels_of(level)
  padded = np.full(size * per_byte, -1, np.int32)
  padded[: channels.size] = channels
  return padded.reshape(size, per_byte).T


def _segment(x, inv_beta, source, level, signed, interpret):
  per_byte, size = source.shape
  rows, columns = -(-x.shape[0] // _ROWS), -(-size // _BYTES)
  source = np.pad(source, ((0, 0), (0, columns * _BYTES - size)), constant_values=-1)
  packed = pl.pallas_call(
    functools.partial(_kernel, level=level, signed=signed, rows=x.shape[0]),
    grid=(rows, columns),
    in_specs=[
      pl.BlockSpec(x.shape, lambda m, b: (0, 0)),
      pl.BlockSpec((1,), lambda m, b: (0,)),
      pl.BlockSpec((per_byte, _BYTES), lambda m, b: (0, b)),
    ],
    out_shape=jax.ShapeDtypeStruct((rows * _ROWS, columns * _BYTES), jnp.uint8),
    out_specs=pl.BlockSpec((_ROWS, _BYTES), lambda m, b: (m, b)),
    compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=1),
    interpret=interpret,
    name="quantize_pack",
  )(x, inv_beta.reshape(1), jnp.asarray(source))
  return packed[: x.shape[0], :size]


def _kernel(x_ref, inv_beta_ref, source_ref, out_ref, *, level, signed, rows):
  m = pl.program_id(0) * _ROWS + jnp.arange(_ROWS)
  real = m < rows
  m = jnp.where(real, m, 0)
  inv_beta = inv_beta_ref[0]
  data = jnp.zeros((_ROWS, _BYTES), jnp.int32)
  for slot in range(8 // level):
    channel = source_ref[slot, :]
    have = channel >= 0
    x = plgpu.load(
      x_ref.at[m[:, None], jnp.where(have, channel, 0)[None, :]],
      mask=real[:, None] & have[None, :],
      other=0.0,
    )
    codes = quantize.encode(quantize.to_grid(x, inv_beta), level, signed=signed)
    data |= jnp.where(have[None, :], codes, 0) << (slot * level)
  out_ref[...] = data.astype(jnp.uint8)
