"""The kernels as JAX functions; arguments are those that `hetjax.ops` has checked."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int32, UInt8

from hetjax.core.geometry import Pads
from hetjax.pack.layout import ChannelLayout
from hetjax.pack.weights import PackedWeights
from pallas_kernels import grouped, matmul, matvec, quantize
from pallas_kernels import storage as kernel_storage
from pallas_kernels.layout import MOSAIC, TRITON, segments
from pallas_kernels.platform import on_its_platform
from pallas_kernels.storage import relayout
from pallas_kernels.window import Geometry

__all__ = ["conv_accumulator", "quantize_pack", "relayout"]


def quantize_pack(
  x: Float[Array, "*b c"], inv_beta: Float[Array, ""], layout: ChannelLayout, signed: bool
) -> UInt8[Array, "*b r"]:
  """Contract of `hetjax.ops.quantize_pack`.

  Raises:
    ValueError: `x` has more elements than the kernels address.
  """
  lead = x.shape[:-1]
  rows = _addressable("x", x.reshape(math.prod(lead), layout.channels))
  if not rows.shape[0]:
    return jnp.zeros((*lead, layout.record_bytes), jnp.uint8)
  records = on_its_platform(quantize.quantize_pack, rows, inv_beta, layout=layout, signed=signed)
  return records.reshape(*lead, layout.record_bytes)


def _addressable(name: str, x: Array) -> Array:
  """An array whose elements have 32-bit offsets, which is what Triton's lowering computes."""
  if x.size >= 2**31:
    raise ValueError(f"{name} must have less than 2^31 elements on a GPU, got shape {x.shape}")
  return x


def conv_accumulator(
  a: UInt8[Array, "b h w r"],
  weights: PackedWeights,
  *,
  signed: bool,
  strides: tuple[int, int],
  padding: Pads,
  kernel_dilation: tuple[int, int],
  storage: str = TRITON,
) -> Int32[Array, "b ho wo n"]:
  """The exact accumulator T of a convolution on packed operands.

  Args:
    a: Activation records.
    weights: In the storage that follows, or in storage "file".
    signed: Whether the activations were packed signed.
    strides: Window strides.
    padding: Made explicit.
    kernel_dilation: Spacing of kernel taps.
    storage: `TRITON`, or `MOSAIC` for Hopper's matrix product where it can serve.

  Raises:
    ValueError: an array has more elements than the kernels address.
  """
  kh, kw, _, n = weights.kernel_shape
  weights = relayout(weights, storage) if weights.storage == "file" else weights
  batch, height, width, _ = a.shape
  geometry = Geometry(batch, (height, width), (kh, kw), strides, padding, kernel_dilation)
  shape = (batch, *geometry.out, n)
  if not math.prod(shape):
    return jnp.zeros(shape, jnp.int32)
  if not batch * height * width:  # every tap lies outside
    return jnp.zeros(shape, jnp.int32)
  compute = _grouped if weights.layout.groups > 1 else _matrix
  return compute(a, weights, signed, geometry).reshape(shape)


def _grouped(a, weights, signed, geometry):
  x = kernel_storage.scaled_levels(a, weights.layout, signed).reshape(-1, weights.layout.channels)
  x = _addressable("levels of activations", x)
  return on_its_platform(grouped.accumulate, x, weights.codes, geometry=geometry)


def _matrix(a, weights, signed, geometry):
  if geometry.is_matrix and geometry.rows <= matvec.MOST_ROWS:
    return _few_rows(a, weights, signed)
  x, missing = kernel_storage.expand(a, weights.layout, signed, weights.storage)
  x = _addressable("levels of activations", x.reshape(-1, x.shape[-1]))
  settings = {
    "segments": segments(weights.layout, weights.storage),
    "geometry": geometry,
    "tile": matmul.tile_of(weights.codes[0].shape[0], geometry.rows),
  }
  on_hopper = geometry.is_matrix and weights.storage == MOSAIC
  function = _hopper if on_hopper else matmul.accumulate
  sums = on_its_platform(function, x, *weights.codes, one_by_one=on_hopper, **settings)
  if not geometry.is_matrix:
    missing = lax.reduce_window(
      missing, jnp.int32(0), lax.add, (1, *geometry.kernel), (1, *geometry.strides),
      ((0, 0), *geometry.padding), window_dilation=(1, *geometry.dilation),
    )  # fmt: skip
  return 2 * sums[:, : weights.kernel_shape[3]] - missing.reshape(-1, 1)


def _hopper(x, *codes, segments, geometry, tile, interpret):
  # Mosaic's simulator has effects, which nothing within a primitive may have. It is tested alone;
  # here the other kernel reads the same codes in the same places.
  if interpret:
    return matmul.accumulate(
      x, *codes, segments=segments, geometry=geometry, tile=tile, interpret=True
    )
  from pallas_kernels import hopper  # has no place in older versions of jax

  return hopper.accumulate(x, *codes, segments=segments, interpret=False)


def _few_rows(a, weights, signed):
  layout, outputs = weights.layout, weights.kernel_shape[3]
  a = a.reshape(-1, a.shape[-1])
  parts = segments(layout, weights.storage)
  x, missing = kernel_storage.expand(a, layout, signed, weights.storage)
  bits = kernel_storage.packed_bits(a, layout, weights.storage)
  arrays = (x, *([] if bits is None else [bits]), *weights.codes)
  sums = on_its_platform(matvec.accumulate, *arrays, segments=parts, signed=signed)
  sums = 2 * sums[:, :outputs] - missing[:, None]
  if bits is None or not signed:
    return sums
  return sums - (weights.corrections << (parts[0].shift + 1))
