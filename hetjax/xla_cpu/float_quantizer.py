"""Gradients of training's quantizers of activations by the engine, in one pass over them."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hetjax.xla_cpu import library


def quantizer_gradient(
  gradient: Float[Array, "*b c"],
  x: Float[Array, "*b c"],
  inv_scale: Float[Array, ""],
  sigma: Float[Array, " c"],
  *,
  signed: bool,
  values: Float[Array, "*b c"] | None = None,
  factor: float = 1.0,
) -> tuple[Float[Array, "*b c"], Float[Array, ""], Float[Array, " c"]]:
  """Gradients of x, inv_scale and sigma where `x * inv_scale` was rounded or given noise.

  Args:
    gradient: Of the quantized values times `factor`, float32.
    x: What was quantized.
    inv_scale: Reciprocal of its scale.
    sigma: Half the grid's spacing.
    signed: Of the grid.
    values: Those with noise; None if they were rounded, sigma's gradient being zero then.
    factor: See `gradient`.
  """
  library.require()
  flat = lambda a: a.reshape(math.prod(x.shape[:-1]), x.shape[-1])
  shape = lambda *extents: jax.ShapeDtypeStruct(extents, jnp.float32)
  rows = flat(x)
  results = (shape(*rows.shape), shape(rows.shape[1]), shape(rows.shape[1]))
  dx, d_sigma, d_inv = jax.ffi.ffi_call(
    "hetjax_float_quantizer", results, vmap_method="sequential"
  )(
    flat(gradient),
    rows,
    rows if values is None else flat(values),
    inv_scale,
    sigma,
    is_signed=signed,
    is_rounded=values is None,
    factor=np.float32(factor),
  )
  return dx.reshape(x.shape), jnp.sum(d_inv), d_sigma
