"""Packed matrix product for Hopper, in Pallas with Mosaic GPU: `matmul` by Hopper's means.

Tiles come by TMA, several on their way at a time; a warpgroup unpacks codes in registers, which are
the left operand of asynchronous matrix instructions (wgmma), and reads activations where they lie
in shared memory. Of `layout.segments`, each has a sum of its own: between two of them the sum of
those before is shifted.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.mosaic import gpu as mgpu
from jax.experimental.pallas import mosaic_gpu as plgpu
from jaxlib.mlir import ir
from jaxlib.mlir.dialects import arith
from jaxtyping import Array, Int8, Int32

from pallas_kernels.layout import Segment
from pallas_kernels.matmul import tile_of

OUTPUTS = 64  # of a tile: those of one instruction
WIDTH = 128  # bytes of a row of shared memory, as swizzled
_TILED = (plgpu.TilingTransform((8, WIDTH)), plgpu.SwizzleTransform(WIDTH))
_SHARED_BYTES = 160 << 10  # for tiles on their way, of the 227 KiB that a block may have
_MOST_STAGES = 4


def accumulate(
  x: Int8[Array, "m columns"],
  *weights: Int8[Array, "n bytes"],
  segments: Sequence[Segment],
  interpret: bool,
) -> Int32[Array, "m n"]:
  """Sums of activations' levels times weights' codes, as `matmul.accumulate` of a matrix product.

  Args:
    x: Levels, from `storage.expand`.
    weights: Codes from `storage.relayout`, `WIDTH` bytes wide, in multiples of `OUTPUTS` rows.
    segments: Of the layer.
    interpret: Whether to run in Mosaic's simulator.
  """
  rows, outputs = x.shape[0], weights[0].shape[0]
  tile = tile_of(OUTPUTS, rows).rows
  x = jnp.pad(x, ((0, -rows % tile), (0, 0)))
  scratch = [plgpu.SMEM((OUTPUTS, tile), jnp.int32)]
  if interpret:
    scratch.append(plgpu.SMEM((OUTPUTS, WIDTH), jnp.int8, transforms=_TILED))
  run = plgpu.kernel(
    functools.partial(_kernel, segments=segments, tile=tile),
    out_type=jax.ShapeDtypeStruct((outputs, x.shape[0]), jnp.int32),
    grid=(outputs // OUTPUTS, x.shape[0] // tile),
    grid_names=("outputs", "rows"),
    scratch_types=scratch,
    **({"interpret": plgpu.InterpretGPUParams()} if interpret else {}),
  )
  return run(x, *weights)[:, :rows].T


def _kernel(x_ref, *refs, segments, tile):
  levels = dict.fromkeys(s.level for s in segments)
  of_level = dict(zip(levels, refs, strict=False))
  out_ref, out_shared, *codes_shared = refs[len(levels) :]
  n = lax.axis_index("outputs") * OUTPUTS
  m = lax.axis_index("rows") * tile
  total, shift = None, segments[0].shift
  for segment in segments:
    part = pl.run_scoped(
      functools.partial(
        _segment,
        x_ref=x_ref.at[pl.ds(m, tile), pl.ds(segment.start, segment.columns)],
        w_ref=of_level[segment.level].at[pl.ds(n, OUTPUTS), :],
        segment=segment,
        tile=tile,
        codes_shared=codes_shared,
      ),
      plgpu.ACC((OUTPUTS, tile), jnp.int32),
    )
    total = part if total is None else (total << (shift - segment.shift)) + part
    shift = segment.shift
  out_shared[...] = total << shift if shift else total
  plgpu.commit_smem()
  plgpu.copy_smem_to_gmem(out_shared, out_ref.at[pl.ds(n, OUTPUTS), pl.ds(m, tile)])
  plgpu.wait_smem_to_gmem(0)


def _segment(sums, *, x_ref, w_ref, segment, tile, codes_shared):
  """The sums of a segment: its whole blocks, then the slots that are left."""

  def multiply(slots, _, w_shared, x_shared):
    for slot in range(slots):
      codes = _codes(w_shared, slot, segment.level, codes_shared)
      plgpu.wgmma(sums, codes, x_shared.at[:, pl.ds(slot * WIDTH, WIDTH)].T)
    plgpu.wgmma_wait(0)

  def over(blocks, slots, w_ref, x_ref):
    step = OUTPUTS * WIDTH + tile * slots * WIDTH
    plgpu.emit_pipeline(
      functools.partial(multiply, slots),
      grid=(blocks,),
      in_specs=[
        plgpu.BlockSpec((OUTPUTS, WIDTH), lambda b: (0, b), transforms=_TILED),
        plgpu.BlockSpec((tile, slots * WIDTH), lambda b: (0, b), transforms=_TILED),
      ],
      max_concurrent_steps=max(1, min(blocks, _MOST_STAGES, _SHARED_BYTES // step)),
    )(w_ref, x_ref)

  columns = segment.blocks * segment.slots * WIDTH
  if segment.blocks:
    over(
      segment.blocks, segment.slots, w_ref.at[:, : segment.blocks * WIDTH], x_ref.at[:, :columns]
    )
  if segment.rest:
    rest = slice(segment.blocks * WIDTH, (segment.blocks + 1) * WIDTH)
    over(1, segment.rest, w_ref.at[:, rest], x_ref.at[:, columns : segment.columns])
  return sums[...]


def _codes(w_shared, slot, level, codes_shared):
  """The codes in one slot of a tile, in registers; interpreted, in shared memory."""
  if codes_shared:  # the simulator's matrix instruction takes nothing else
    codes = w_shared[...]
    if level < 8:
      codes = lax.shift_right_logical(codes, jnp.int8(slot * level)) & jnp.int8((1 << level) - 1)
    codes_shared[0][...] = codes
    return codes_shared[0]
  codes = plgpu.load(w_shared, layout=plgpu.Layout.WGMMA_8BIT)
  return codes if level == 8 else _unpack(codes, slot, level)


def _unpack(codes, slot, level):
  """One slot's codes by a shift and a mask of four bytes, which Mosaic has of whole words only."""
  layout = plgpu.Layout.WGMMA_8BIT
  result = plgpu.ShapeDtypeStruct(codes.shape, jnp.int8, layout=layout)

  @plgpu.inline_mgpu(arg_types=(layout,), return_type=result)
  def unpack(_, codes):
    word = ir.IntegerType.get_signless(32)
    constant = lambda value: arith.constant(word, ir.IntegerAttr.get(word, value))
    mask, shift = constant(((1 << level) - 1) * 0x01010101), constant(slot * level)
    registers = np.empty_like(codes.registers)
    for i, register in np.ndenumerate(codes.registers):
      value = mgpu.utils.bitcast(register, word)
      value = arith.andi(arith.shrui(value, shift) if slot else value, mask)
      registers[i] = mgpu.utils.bitcast(value, register.type)
    return mgpu.FragmentedArray(
      _registers=registers, _layout=codes.layout, _is_signed=codes.is_signed
    )

  return unpack(codes)
