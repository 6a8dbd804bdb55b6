"""Random layers and a plain integer convolution to hold the engine against."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from hetjax.core.palette import ALLOWED_LEVELS, Palette
from hetjax.core.quantize import accumulator_levels
from hetjax.pack import ChannelLayout, PackedWeights, pack_activations, pack_weights

PALETTES = tuple(levels for k in (1, 2, 3) for levels in itertools.combinations(ALLOWED_LEVELS, k))


@dataclasses.dataclass(frozen=True)
class Case:
  """One convolution: codes, geometry, and the accumulators it must give (int64)."""

  layout: ChannelLayout
  a_codes: np.ndarray
  w_codes: np.ndarray
  signed: bool
  strides: tuple[int, int]
  padding: tuple[tuple[int, int], tuple[int, int]]
  kernel_dilation: tuple[int, int]

  @property
  def weights(self) -> PackedWeights:
    return pack_weights(self.w_codes, self.layout)

  @property
  def records(self) -> np.ndarray:
    return pack_activations(self.a_codes, self.layout)

  @property
  def geometry(self) -> dict:
    return {
      "signed": self.signed,
      "strides": self.strides,
      "padding": self.padding,
      "kernel_dilation": self.kernel_dilation,
    }

  def expected(self) -> np.ndarray:
    """Decode, pad with zeros, loop over taps."""
    layout, bits, pmax = self.layout, self.layout.bits_array, self.layout.palette.pmax
    kh, kw, cg, n = self.w_codes.shape
    by_output = np.repeat(bits.reshape(layout.groups, cg).T, n // layout.groups, axis=1)
    a = accumulator_levels(self.a_codes, bits, pmax, signed=self.signed, xp=np).astype(np.int64)
    w = accumulator_levels(self.w_codes, by_output, pmax, signed=True, xp=np).astype(np.int64)
    a = np.pad(a, ((0, 0), *self.padding, (0, 0)))
    (sh, sw), (dh, dw) = self.strides, self.kernel_dilation
    ho = max(0, (a.shape[1] - dh * (kh - 1) - 1) // sh + 1)
    wo = max(0, (a.shape[2] - dw * (kw - 1) - 1) // sw + 1)
    out = np.zeros((a.shape[0], ho, wo, layout.groups, n // layout.groups), np.int64)
    if out.size == 0:
      return out.reshape(*out.shape[:3], n)
    for i, j in np.ndindex(kh, kw):
      taps = a[:, i * dh :: sh, j * dw :: sw][:, :ho, :wo]
      taps = taps.reshape(*taps.shape[:3], layout.groups, cg)
      kernel = w[i, j].reshape(cg, layout.groups, n // layout.groups)
      out += np.einsum("bhwgc,cgn->bhwgn", taps, kernel, optimize=True)
    return out.reshape(*out.shape[:3], n)


def random_codes(rng, shape: tuple[int, ...], bits: np.ndarray, extreme: bool) -> np.ndarray:
  """Codes below 2^bits (broadcast against the shape); only the two ends if `extreme`."""
  top = (1 << bits) - 1
  if extreme:
    return (rng.integers(0, 2, shape) * top).astype(np.uint8)
  return (rng.integers(0, 256, shape) & top).astype(np.uint8)


def random_case(rng, palette: tuple[int, ...] | None = None) -> Case:
  """A small layer of any kind: plain, grouped, depthwise, dense; all paddings and strides."""
  palette = palette or PALETTES[rng.integers(len(PALETTES))]
  kind = rng.choice(["plain", "grouped", "depthwise", "dense"])
  groups = {"grouped": int(rng.integers(2, 5)), "depthwise": int(rng.integers(1, 80))}.get(kind, 1)
  cg = 1 if kind == "depthwise" else int(rng.choice([1, 2, 3, 5, 17, 33, 64, 70]))
  # One output more or less than a vector or a block, to meet every remainder.
  per_group = int(rng.integers(1, 4)) if groups > 1 else int(rng.choice([1, 7, 63, 64, 65, 130]))
  weights = rng.dirichlet(np.full(len(palette), 0.5))  # often one level is absent
  bits = rng.choice(palette, cg * groups, p=weights).astype(int)
  layout = ChannelLayout(tuple(bits.tolist()), Palette(palette), groups)
  kh, kw = (1, 1) if kind == "dense" else (int(k) for k in rng.integers(1, 4, 2))
  h, w = (1, int(rng.integers(1, 10))) if kind == "dense" else rng.integers(1, 9, 2).tolist()
  pads = rng.integers(0, 4, (2, 2)) * (kind != "dense")
  by_output = np.repeat(layout.bits_array.reshape(groups, cg).T, per_group, axis=1)
  extreme = bool(rng.integers(2))
  batch = int(rng.integers(1, 3))
  return Case(
    layout=layout,
    a_codes=random_codes(rng, (batch, h, w, cg * groups), layout.bits_array, extreme),
    w_codes=random_codes(rng, (kh, kw, cg, per_group * groups), by_output, extreme),
    signed=bool(rng.integers(2)),
    strides=tuple(rng.integers(1, 4, 2).tolist()),
    padding=tuple(tuple(p) for p in pads.tolist()),
    kernel_dilation=tuple(rng.integers(1, 4, 2).tolist()),
  )
