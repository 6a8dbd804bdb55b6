"""The pack-time promise that no input can overflow a layer's int32 accumulator."""

from __future__ import annotations

import numpy as np

from hetjax.core.quantize import accumulator_levels
from hetjax.pack.layout import ChannelLayout
from hetjax.pack.weights import check_kernel_shape

INT32_MAX = 2**31 - 1


def accumulator_bound(codes: np.ndarray, layout: ChannelLayout, signed: bool) -> int:
  """Largest |T| that any activation codes can produce with these weights; it is attained.

  Every partial sum is bounded by it too, in any order of the terms, and so is the sum at an image
  border, where terms are left out.

  Args:
    codes: Weight codes, integer [kh, kw, Cg, N].
    layout: Levels and groups of the input channels.
    signed: Whether the activations are signed.

  Returns:
    The bound, maximum over output channels. Signed activations take both signs, so magnitudes add;
    unsigned ones can only keep or drop a term, so positive and negative weights add apart.

  Raises:
    ValueError: the shape of `codes` is at odds with the layout.
  """
  codes = np.asarray(codes)
  kh, kw, per_group, outputs = check_kernel_shape(codes.shape, layout)
  groups = layout.groups
  grouped = codes.reshape(kh * kw, per_group, groups, outputs // groups)
  bits = layout.bits_array.reshape(groups, per_group).T[None, :, :, None]
  pmax = layout.palette.pmax
  weights = accumulator_levels(grouped, bits, pmax, signed=True, xp=np).astype(np.int64)
  # The largest level is 2^p - 1 for odd (signed) and for plain (unsigned) levels alike.
  largest = np.left_shift(np.left_shift(1, bits) - 1, pmax - bits).astype(np.int64)
  terms = weights * largest
  positive = np.maximum(terms, 0).sum(axis=(0, 1))
  negative = np.maximum(-terms, 0).sum(axis=(0, 1))
  return int((positive + negative if signed else np.maximum(positive, negative)).max())


def check_accumulator(
  codes: np.ndarray, layout: ChannelLayout, signed: bool, name: str = "layer"
) -> None:
  """Refuses weights whose accumulator could leave int32.

  Raises:
    ValueError: names the layer, the bound and the limit.
  """
  bound = accumulator_bound(codes, layout, signed)
  if bound > INT32_MAX:
    raise ValueError(
      f"layer {name!r}: accumulator must stay within {INT32_MAX}, inputs exist that reach {bound}; "
      f"use fewer bits or narrower palettes than {layout.palette.levels}"
    )


def accumulator_limit(layout: ChannelLayout, kernel_shape: tuple[int, int, int, int]) -> int:
  """Bound on |T| from levels and shape alone: every weight at its level's extreme.

  Args:
    layout: Levels and groups of the input channels.
    kernel_shape: `(kh, kw, Cg, N)`.

  Returns:
    At least `accumulator_bound` of any codes.
  """
  taps = kernel_shape[0] * kernel_shape[1]
  extremes = (np.left_shift(1, layout.bits_array.astype(np.int64)) - 1) ** 2
  steps = np.left_shift(1, 2 * (layout.palette.pmax - layout.bits_array.astype(np.int64)))
  return taps * int((extremes * steps).reshape(layout.groups, -1).sum(axis=1).max())
