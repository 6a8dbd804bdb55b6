"""The ops once more in NumPy with 64-bit integers, independent of XLA: the judge of all others."""

from __future__ import annotations

import numpy as np

from hetjax.core import quantize
from hetjax.core.geometry import Pads, output_size
from hetjax.pack.activations import pack_activations, unpack_activations
from hetjax.pack.layout import ChannelLayout
from hetjax.pack.weights import PackedWeights, unpack_weights


def quantize_pack(
  x: np.ndarray, inv_beta: np.float32, layout: ChannelLayout, signed: bool
) -> np.ndarray:
  """Activation records uint8[*b, r] of float32 values x[*b, c]."""
  bits = np.asarray(layout.bits, np.int32)
  with np.errstate(over="ignore", invalid="ignore"):
    steps = quantize.to_grid(np.asarray(x, np.float32), np.float32(inv_beta), np)
    codes = quantize.encode(steps, bits, signed=signed, xp=np)
  return pack_activations(codes.astype(np.uint8), layout)


def conv_accumulator(
  a: np.ndarray,
  weights: PackedWeights,
  *,
  signed: bool,
  strides: tuple[int, int],
  padding: Pads,
  kernel_dilation: tuple[int, int],
) -> np.ndarray:
  """Accumulators T as int64[b, ho, wo, n]; the true value even where int32 would overflow."""
  layout, pmax = weights.layout, weights.layout.palette.pmax
  kh, kw, cg, n = weights.kernel_shape
  groups, per_group = layout.groups, n // layout.groups
  bits = np.asarray(layout.bits, np.int32)
  codes = unpack_activations(a, layout)
  x = quantize.accumulator_levels(codes, bits, pmax, signed=signed, xp=np).astype(np.int64)
  by_output = np.repeat(bits.reshape(groups, cg).T, per_group, axis=1)
  kernel = quantize.accumulator_levels(
    unpack_weights(weights), by_output, pmax, signed=True, xp=np
  ).astype(np.int64)
  ho, wo = output_size(x.shape[1:3], (kh, kw), strides, padding, kernel_dilation)
  x = np.pad(x, ((0, 0), *padding, (0, 0)))
  total = np.zeros((x.shape[0], ho, wo, n), np.int64)
  for i in range(kh):
    for j in range(kw):
      top, left = i * kernel_dilation[0], j * kernel_dilation[1]
      window = x[
        :,
        top : top + (ho - 1) * strides[0] + 1 : strides[0],
        left : left + (wo - 1) * strides[1] + 1 : strides[1],
      ]
      for g in range(groups):
        outputs = slice(g * per_group, (g + 1) * per_group)
        total[..., outputs] += window[..., g * cg : (g + 1) * cg] @ kernel[i, j, :, outputs]
  return total
