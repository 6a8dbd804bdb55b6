"""Packed matrix product and convolution: codes unpacked in registers, int8 matrix instructions.

One kernel serves both: a convolution is a sum over taps of products whose rows are gathered. The
weights are the left operand, so that the codes that a thread unpacks are those that it multiplies.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Int8, Int32

from pallas_kernels.layout import Segment, largest_sum
from pallas_kernels.window import Geometry


@dataclasses.dataclass(frozen=True)
class Tile:
  """What a block of threads computes, and how.

  Attributes:
    outputs: Output channels, a power of two of at least 16.
    rows: Rows of activations, likewise.
    warps: Warps of the block.
    stages: Tiles on their way from memory at a time.
  """

  outputs: int
  rows: int
  warps: int = 4
  stages: int = 3


def tile_of(outputs: int, rows: int) -> Tile:
  """A tile for a product of `outputs` (padded, see `storage`) by `rows`."""
  fits = next((n for n in (16, 32) if rows <= n), 64)
  return Tile(min(outputs, 64), fits)


def accumulate(
  x: Int8[Array, "p columns"],
  *weights: Int8[Array, "n bytes"],
  segments: Sequence[Segment],
  geometry: Geometry,
  tile: Tile,
  interpret: bool,
) -> Int32[Array, "m n"]:
  """Sums of activations' levels times weights' codes.

  Args:
    x: Levels, a row a pixel, from `storage.expand`.
    weights: Codes from `storage.relayout`.
    segments: Of the layer.
    geometry: Of the convolution.
    tile: Of a block.
    interpret: Whether to run on CPU.

  Returns:
    A row per pixel of the result, a column per output channel of the weights.
  """
  outputs = weights[0].shape[0]
  blocks = -(-geometry.rows // tile.rows)
  kernel = functools.partial(
    _kernel, segments=segments, geometry=geometry, tile=tile, interpret=interpret
  )
  sums = pl.pallas_call(
    kernel,
    grid=(outputs // tile.outputs, blocks),
    out_shape=jax.ShapeDtypeStruct((blocks * tile.rows, outputs), jnp.int32),
    out_specs=pl.BlockSpec((tile.rows, tile.outputs), lambda n, m: (m, n)),
    compiler_params=plgpu.CompilerParams(num_warps=tile.warps, num_stages=tile.stages),
    interpret=interpret,
    name="packed_matmul",
  )(x, *weights)
  return sums[: geometry.rows]


def _kernel(x_ref, *refs, segments, geometry, tile, interpret):
  *w_refs, out_ref = refs
  n = pl.program_id(0) * tile.outputs
  m = pl.program_id(1) * tile.rows + jnp.arange(tile.rows)
  of_level = dict(zip(dict.fromkeys(s.level for s in segments), w_refs, strict=True))
  zeros = jnp.zeros((tile.outputs, tile.rows), jnp.int32)
  sums, before, shift = zeros, None, segments[0].shift
  # Matrix instructions saturate; other additions wrap, and the accumulator itself fits.
  one_sum = largest_sum(segments, geometry.taps) < 2**31
  for segment in segments:
    less, shift = shift - segment.shift, segment.shift
    if one_sum:
      sums = sums << less if less else sums
    else:
      before = zeros if before is None else (before + sums) << less
      sums = zeros
    w_ref = of_level[segment.level]

    def product(sums, tap, block, slots, segment=segment, w_ref=w_ref):
      rows, inside = geometry.row_of(m, tap)
      first = tap * segment.tap_bytes + block * segment.width
      codes = w_ref[pl.ds(n, tile.outputs), pl.ds(first, segment.width)]
      for slot in range(slots):
        first = segment.start + (block * segment.slots + slot) * segment.width
        columns = first + jnp.arange(segment.width)
        levels = plgpu.load(
          x_ref.at[jnp.where(inside, rows, 0)[:, None], columns[None, :]],
          mask=jnp.broadcast_to(inside[:, None], (tile.rows, segment.width)),
          other=0,
        )
        sums += lax.dot_general(
          _slot(codes, slot, segment.level, interpret), levels, (((1,), (1,)), ((), ())),
          preferred_element_type=jnp.int32,
        )  # fmt: skip
      return sums

    def whole(i, sums, segment=segment, product=product):
      if geometry.taps == 1:
        return product(sums, 0, i, segment.slots)
      blocks = jnp.int32(segment.blocks)
      return product(sums, lax.div(i, blocks), lax.rem(i, blocks), segment.slots)

    sums = lax.fori_loop(0, geometry.taps * segment.blocks, whole, sums)
    if segment.rest:
      rest = functools.partial(product, block=segment.blocks, slots=segment.rest)
      sums = lax.fori_loop(0, geometry.taps, lambda tap, sums, rest=rest: rest(sums, tap), sums)
  sums = sums if before is None else before + sums
  out_ref[...] = (sums << shift).T


def _slot(
  codes: Int8[Array, "n width"], slot: int, level: int, interpret: bool
) -> Int8[Array, "n width"]:
  """The codes in one slot of a tile's bytes."""
  if level == 8:
    return codes
  mask, shift = (1 << level) - 1, slot * level
  if interpret:
    return (lax.shift_right_logical(codes, jnp.int8(shift))) & jnp.int8(mask)
  # What LLVM makes of bytes is one instruction or more a byte; these are two for four of them.
  shifted = f"shr.b32 $0, $1, {shift}; " if shift else ""
  (unpacked,) = plgpu.elementwise_inline_asm(
    f"{shifted}and.b32 $0, {'$0' if shift else '$1'}, {mask * 0x01010101};",
    args=[codes],
    constraints="=r,r",
    pack=4,
    result_shape_dtypes=[jax.ShapeDtypeStruct(codes.shape, jnp.int8)],
  )
  return unpacked
