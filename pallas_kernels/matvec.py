"""Packed matrix times a few vectors: as fast as the weights can be read, without matrix units.

Levels of two bits and more are multiplied four at a time by dp4a, which takes the bytes that
`matmul` unpacks. One-bit codes are not unpacked: an AND and a population count multiply 32.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Int8, Int32

from pallas_kernels.layout import Segment

MOST_ROWS = 8
_OUTPUTS = 16  # of a tile: 16 bytes of weights a thread where a tile is 128 wide
_WARPS, _STAGES = 4, 4
_UNROLLED_BYTES = 512  # of an output's weights an iteration, for one row


def accumulate(
  x: Int8[Array, "m columns"],
  *rest: Int8[Array, ...],
  segments: Sequence[Segment],
  signed: bool,
  interpret: bool,
) -> Int32[Array, "m n"]:
  """Sums of activations' levels times weights' codes, but of one-bit levels 2 u times codes.

  A signed one-bit level is 2 u - 1: what is too much is the sum of the codes, for each output.

  Args:
    x: Levels, as `matmul.accumulate` takes them; those of one bit are not read.
    *rest: If there are one-bit channels, their codes int8[m, bytes], packed as the weights are;
      then the weights' codes int8[n, bytes] from `storage.relayout`.
    segments: Of the layer.
    signed: Whether the activations are; one-bit levels of others are u, not 2 u.
    interpret: Whether to run on CPU.
  """
  has_bits = any(segment.level == 1 for segment in segments)
  rows, outputs = x.shape[0], rest[-1].shape[0]
  arrays = (x, *rest)
  kernel = functools.partial(
    _kernel, segments=segments, rows=rows, has_bits=has_bits, signed=signed, interpret=interpret
  )
  return pl.pallas_call(
    kernel,
    grid=(outputs // _OUTPUTS,),
    in_specs=[pl.BlockSpec(a.shape, lambda n: (0, 0)) for a in arrays],
    out_shape=jax.ShapeDtypeStruct((rows, outputs), jnp.int32),
    out_specs=pl.BlockSpec((rows, _OUTPUTS), lambda n: (0, n)),
    compiler_params=plgpu.CompilerParams(num_warps=_WARPS, num_stages=_STAGES),
    interpret=interpret,
    name="packed_matvec",
  )(*arrays)


def _kernel(x_ref, *refs, segments, rows, has_bits, signed, interpret):
  bits_ref = refs[0] if has_bits else None
  *w_refs, out_ref = refs[has_bits:]
  n = pl.program_id(0) * _OUTPUTS
  of_level = dict(zip(dict.fromkeys(s.level for s in segments), w_refs, strict=True))
  totals = [jnp.zeros((_OUTPUTS,), jnp.int32) for _ in range(rows)]
  shift = segments[0].shift
  for segment in segments:
    totals = [t << (shift - segment.shift) for t in totals]
    shift = segment.shift
    add = functools.partial(
      _add_block, segment, x_ref, bits_ref, of_level[segment.level], n, interpret
    )
    zeros = tuple(jnp.zeros((_OUTPUTS, segment.width), jnp.int32) for _ in range(rows))
    several = max(1, _UNROLLED_BYTES // segment.width // rows)
    whole = functools.partial(add, slots=segment.slots)
    sums = _over_blocks(segment.blocks, several, whole, zeros)
    if segment.rest:
      sums = add(segment.blocks, sums, slots=segment.rest)
    double = segment.level == 1 and signed
    totals = [t + (jnp.sum(s, axis=1) << double) for t, s in zip(totals, sums, strict=True)]
  for row, total in enumerate(totals):
    out_ref[row, :] = total << shift


def _over_blocks(blocks, unrolled, add, sums):
  """Adds whole blocks, several an iteration: of one row, so little is done that the loop counts."""

  def several(i, sums):
    for j in range(unrolled):
      sums = add(i * unrolled + j, sums)
    return sums

  sums = lax.fori_loop(0, blocks // unrolled, several, sums)
  for block in range(blocks // unrolled * unrolled, blocks):
    sums = add(block, sums)
  return sums


def _add_block(segment, x_ref, bits_ref, w_ref, n, interpret, block, sums, *, slots):
  """Sums with the products of one block of weights, four neighbours' in the place of one."""
  width = segment.width
  shape = (_OUTPUTS, width)
  codes = w_ref[pl.ds(n, _OUTPUTS), pl.ds(block * width, width)]
  sums = list(sums)
  for row in range(len(sums)):
    if segment.level == 1:
      data = _row_of(bits_ref, row, block * width, shape)
      sums[row] = _count_common(sums[row], codes, data, interpret)
      continue
    for slot in range(slots):
      first = segment.start + (block * segment.slots + slot) * width
      levels = _row_of(x_ref, row, first, shape)
      sums[row] = _dot4(sums[row], codes, levels, slot, segment.level, interpret)
  return tuple(sums)


def _row_of(ref, row, first, shape):
  """Neighbours of a row for every output. Loaded so, each thread has what it needs at once; what is
  loaded once and broadcast goes through shared memory, byte by byte."""
  columns = jnp.broadcast_to((first + jnp.arange(shape[1]))[None, :], shape)
  return plgpu.load(ref.at[jnp.full(shape, row), columns])


def _count_common(sums, codes, data, interpret):
  if interpret:
    return sums + lax.population_count(codes & data).astype(jnp.int32)
  return _on_words(
    sums, codes, data, 0, "and.b32 t, $8, $9; popc.b32 t, t; add.s32 $0, $4, t;"
  )  # fmt: skip


def _dot4(sums, codes, levels, slot, level, interpret):
  mask, shift = (1 << level) - 1, slot * level
  if interpret:
    if level < 8:
      codes = lax.shift_right_logical(codes, jnp.int8(shift)) & jnp.int8(mask)
    return sums + codes.astype(jnp.int32) * levels.astype(jnp.int32)
  unpack = f"shr.b32 t, $8, {shift}; and.b32 t, t, {mask * 0x01010101};" if level < 8 else ""
  unpack = unpack or "mov.b32 t, $8;"
  at = slot % 4  # independent sums, so that one need not wait for the other
  return _on_words(
    sums, codes, levels, at, f"{unpack} dp4a.s32.s32 ${at}, t, $9, ${at + 4};"
  )  # fmt: skip


def _on_words(sums, codes, data, at, body):
  """Runs `body` on four neighbours' bytes at a time; it computes sum `at` of theirs.

  The four must be of one output, or its sum gets another's products. They are as long as a thread
  holds at least four elements of a row, as Triton has it for tiles of bytes that it loads.
  """
  kept = "".join(f"mov.b32 ${i}, ${i + 4}; " for i in range(4) if i != at)
  (result,) = plgpu.elementwise_inline_asm(
    f"{{ .reg .b32 t; {body} {kept}}}",
    args=[sums, codes, data],
    constraints="=&r,=&r,=&r,=&r,r,r,r,r,r,r",
    pack=4,
    result_shape_dtypes=[jax.ShapeDtypeStruct(sums.shape, jnp.int32)],
  )
  return result
