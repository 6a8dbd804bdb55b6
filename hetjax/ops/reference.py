"""The ops in plain JAX: what every backend must equal. Runs anywhere jax runs, under jit and vmap.

Codes are unpacked to integer levels scaled to the palette's finest step; one exact contraction
(`ops.exact`) of those is the accumulator T.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from hetjax.core import quantize
from hetjax.core.geometry import Pads
from hetjax.ops import convolution, exact
from hetjax.pack.layout import ChannelLayout
from hetjax.pack.traced import pack_bits, unpack_activations, unpack_weights
from hetjax.pack.weights import PackedWeights


def quantize_pack(
  x: Float[Array, "*b c"], inv_beta: Float[Array, ""], layout: ChannelLayout, signed: bool
) -> UInt8[Array, "*b r"]:
  """Contract of `ops.quantize_pack`."""
  bits = np.asarray(layout.bits, np.int32)
  codes = quantize.encode(quantize.to_grid(x, inv_beta), bits, signed=signed).astype(jnp.uint8)
  segments, start = [], 0
  for level, count in layout.counts.items():
    channels = layout.order[start : start + count]
    segments.append(pack_bits(codes[..., channels], level, align=4))
    start += count
  return jnp.concatenate(segments, axis=-1)


def conv_accumulator(
  a: UInt8[Array, "b h w r"],
  weights: PackedWeights,
  *,
  signed: bool,
  strides: tuple[int, int],
  padding: Pads,
  kernel_dilation: tuple[int, int],
) -> Int[Array, "b ho wo n"]:
  """The exact int32 accumulator T of a convolution on packed operands."""
  layout = weights.layout
  pmax = layout.palette.pmax
  bits = np.asarray(layout.bits, np.int32)
  _, _, cg, n = weights.kernel_shape
  by_output = bits.reshape(layout.groups, cg).T  # [cg, groups]
  by_output = np.repeat(by_output, n // layout.groups, axis=1)
  levels = quantize.accumulator_levels(unpack_activations(a, layout), bits, pmax, signed=signed)
  kernel = quantize.accumulator_levels(unpack_weights(weights), by_output, pmax, signed=True)

  def contract(x, k):
    return convolution.convolve(
      x,
      k,
      strides=strides,
      padding=padding,
      kernel_dilation=kernel_dilation,
      groups=layout.groups,
    )

  return exact.int32_accumulator(
    contract,
    levels.astype(jnp.float32),
    kernel.astype(jnp.float32),
    a_max=exact.level_limit(pmax, signed=signed),
    w_max=exact.level_limit(pmax, signed=True),
  )
