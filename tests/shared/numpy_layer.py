"""Quantized layers written from docs/arithmetic.md with loops, sharing no code with hetjax."""

import numpy as np


def codes_of(x, bits, signed):
  """Nearest levels, ties to the higher code; x in grid units, bits broadcasting against it."""
  x, bits = np.asarray(x, np.float64), np.asarray(bits)
  sigma = 2.0 ** (1 - bits)
  shift = 2.0 ** (bits - 1) if signed else 0.5
  return np.clip(np.floor(x / (2 * sigma) + shift), 0, 2**bits - 1).astype(np.int64)


def accumulator(x, beta, kernel, bits, *, pmax, signed, groups, strides, pads, dilation):
  """T, int64[b, ho, wo, n]: per level an integer sum, weighted by 4^(pmax - p).

  Args:
    x: f32[b, h, w, c].
    beta: f32 scale of the activations.
    kernel: f32[kh, kw, c // groups, n] in grid units.
    bits: int[c].
    pmax: Highest level of the palette.
    signed, groups, strides, pads, dilation: Of the layer.
  """
  b, h, w = x.shape[:3]
  kh, kw, per_group, n = kernel.shape
  (top, bottom), (left, right) = pads
  ho = (h + top + bottom - dilation[0] * (kh - 1) - 1) // strides[0] + 1
  wo = (w + left + right - dilation[1] * (kw - 1) - 1) // strides[1] + 1
  activations = codes_of(x * (np.float32(1) / np.float32(beta)), bits, signed)
  if signed:
    activations = 2 * activations - (2**bits - 1)
  total = np.zeros((b, ho, wo, n), np.int64)
  for o in range(n):
    for k in range(per_group):
      channel = o // (n // groups) * per_group + k
      p = int(bits[channel])
      levels = 2 * codes_of(kernel[:, :, k, o], p, True) - (2**p - 1)
      for i in range(ho):
        for j in range(wo):
          for u in range(kh):
            for v in range(kw):
              y = i * strides[0] + u * dilation[0] - top
              z = j * strides[1] + v * dilation[1] - left
              if 0 <= y < h and 0 <= z < w:
                total[:, i, j, o] += 4 ** (pmax - p) * activations[:, y, z, channel] * levels[u, v]
  return total
