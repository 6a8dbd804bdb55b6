"""Kernels with one defect each, for the step of `verify` that is meant to find it."""

import functools

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from pallas_kernels import cases as good
from pallas_kernels.cases import Case
from pallas_kernels.matmul import Tile

NO_LOWERING, SHARED_MEMORY, SPILL, NO_MATRIX_UNIT, NO_KERNEL = (
  "an operation without a lowering",
  "more shared memory than there is",
  "more registers than there are",
  "no matrix instruction",
  "no kernel at all",
)


def _sorting():
  def kernel(x_ref, out_ref):
    out_ref[...] = jnp.sort(x_ref[...])

  call = pl.pallas_call(
    kernel,
    out_shape=jax.ShapeDtypeStruct((64,), jnp.int32),
    compiler_params=plgpu.CompilerParams(num_warps=1, num_stages=1),
  )
  return call, [jax.ShapeDtypeStruct((64,), jnp.int32)]


def _product(tile):
  return good._matmul({4: 4096}, 4096, good._rows(256), tile)


def _plain():
  return functools.partial(jnp.add, 1), [jax.ShapeDtypeStruct((64,), jnp.int32)]


def cases():
  """See `pallas_kernels.cases.cases`."""
  return [
    Case(NO_LOWERING, _sorting),
    Case(SHARED_MEMORY, _product(Tile(128, 128, 4, 12)), good.MATRIX_UNIT, 128),
    Case(SPILL, _product(Tile(256, 128, 4, 1)), good.MATRIX_UNIT, 128),
    Case(NO_MATRIX_UNIT, good._depthwise, good.MATRIX_UNIT),
    Case(NO_KERNEL, _plain),
  ]
