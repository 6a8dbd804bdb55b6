"""Convolutions with groups, depthwise ones above all: too small for matrix instructions."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
from jaxtyping import Array, Int16, Int32

from pallas_kernels.window import Geometry

_ROWS, _OUTPUTS = 16, 64  # of a tile


def accumulate(
  x: Int16[Array, "p c"],
  weights: Int16[Array, "taps cg n"],
  *,
  geometry: Geometry,
  interpret: bool,
) -> Int32[Array, "m n"]:
  """The accumulator of a convolution whose output channel j reads the channels of its group.

  Args:
    x: Scaled levels, a row a pixel, from `storage.scaled_levels`.
    weights: Scaled levels from `storage.relayout`.
    geometry: Of the convolution.
    interpret: Whether to run on CPU.
  """
  _, per_group, outputs = weights.shape
  rows = -(-geometry.rows // _ROWS)
  columns = -(-outputs // _OUTPUTS)
  kernel = functools.partial(
    _kernel, geometry=geometry, per_group=per_group, outputs=outputs, channels=x.shape[1]
  )
  sums = pl.pallas_call(
    kernel,
    grid=(columns, rows),
    out_shape=jax.ShapeDtypeStruct((rows * _ROWS, columns * _OUTPUTS), jnp.int32),
    out_specs=pl.BlockSpec((_ROWS, _OUTPUTS), lambda n, m: (m, n)),
    compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=1),
    interpret=interpret,
    name="packed_grouped",
  )(x, weights)
  return sums[: geometry.rows, :outputs]


def _kernel(x_ref, w_ref, out_ref, *, geometry, per_group, outputs, channels):
  m = pl.program_id(1) * _ROWS + jnp.arange(_ROWS)
  n = pl.program_id(0) * _OUTPUTS + jnp.arange(_OUTPUTS)
  real = n < outputs
  n = jnp.where(real, n, 0)
  first = lax.div(n, outputs * per_group // channels) * per_group  # of the group's channels

  def product(i, sums):
    tap, k = lax.div(i, per_group), lax.rem(i, per_group)
    rows, inside = geometry.row_of(m, tap)
    rows = jnp.where(inside, rows, 0)
    x = plgpu.load(
      x_ref.at[rows[:, None], (first + k)[None, :]],
      mask=inside[:, None] & real[None, :],
      other=0,
    )
    at = jnp.full_like(n, 0)
    w = plgpu.load(w_ref.at[at + tap, at + k, n], mask=real, other=0)
    return sums + x.astype(jnp.int32) * w.astype(jnp.int32)[None, :]

  zeros = jnp.zeros((_ROWS, _OUTPUTS), jnp.int32)
  out_ref[...] = lax.fori_loop(0, geometry.taps * per_group, product, zeros)
