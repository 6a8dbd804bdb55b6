"""Where codes lie for the matrix kernels, and what the kernels are given."""

import jax.numpy as jnp
import numpy as np
import pytest

from hetjax.core import Palette
from hetjax.pack import ChannelLayout, pack_activations, pack_weights
from pallas_kernels import storage
from pallas_kernels.layout import MOSAIC, TRITON, columns, segments


def layout_of(counts, palette, seed=0):
  bits = np.repeat(list(counts), list(counts.values()))
  np.random.default_rng(seed).shuffle(bits)
  return ChannelLayout(tuple(int(b) for b in bits), Palette(palette))


LAYOUTS = [
  layout_of({1: 700, 2: 300, 4: 90}, (1, 2, 4)),
  layout_of({2: 5, 4: 513, 8: 70}, (2, 4, 8)),
  layout_of({1: 3}, (1, 8)),
  layout_of({8: 260}, (8,)),
]


@pytest.mark.parametrize("form", [TRITON, MOSAIC])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda v: str(v.counts))
def test_segments_follow_one_another_and_count_less_and_less(layout, form):
  found = segments(layout, form)
  assert [s.start for s in found] == [sum(s.columns for s in found[:i]) for i in range(len(found))]
  assert columns(layout, form) == sum(s.columns for s in found)
  shifts = [s.shift for s in found]
  assert shifts == sorted(set(shifts), reverse=True)
  for s in found:
    assert s.channels == layout.counts[s.level]
    assert s.columns >= s.channels > s.columns - s.width
    assert s.blocks * s.slots + s.rest == s.columns // s.width
    assert 0 <= s.rest < s.slots


@pytest.mark.parametrize("form", [TRITON, MOSAIC])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda v: str(v.counts))
def test_a_code_lies_where_it_is_said_to(layout, form):
  rng = np.random.default_rng(1)
  top = (1 << layout.bits_array)[:, None]
  codes = rng.integers(0, top, (2, 3, layout.channels, 5)).astype(np.uint8)
  laid = storage.relayout(pack_weights(codes, layout), form)
  assert laid.storage == form
  mine = [s for s in segments(layout, form) if not s.high]
  for segment, data in zip(mine, laid.codes, strict=True):
    assert data.shape == (storage.padded_outputs(5, form), 6 * segment.tap_bytes)
    data = np.asarray(data).view(np.uint8).reshape(-1, 6, segment.tap_bytes)
    assert not data[5:].any() or segment.level == 8
    for i, channel in enumerate(layout.channels_of(segment.level)):
      place, column = divmod(i, segment.width)
      block, slot = divmod(place, segment.slots)
      byte = data[:5, :, block * segment.width + column]
      code = (byte >> (slot * segment.level)) & ((1 << segment.level) - 1)
      expected = codes.reshape(6, -1, 5)[:, channel].T
      np.testing.assert_array_equal(code, expected ^ 128 if segment.level == 8 else expected)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("form", [TRITON, MOSAIC])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda v: str(v.counts))
def test_levels_and_what_their_sums_lack(layout, signed, form):
  rng = np.random.default_rng(2)
  codes = rng.integers(0, 1 << layout.bits_array, (4, layout.channels)).astype(np.uint8)
  x, missing = storage.expand(jnp.asarray(pack_activations(codes, layout)), layout, signed, form)
  x, lacking = np.asarray(x, np.int64), np.zeros(4, np.int64)
  for segment in segments(layout, form):
    part = x[:, segment.start : segment.start + segment.columns]
    assert not part[:, segment.channels :].any()
    levels = codes[:, layout.channels_of(segment.level)].astype(np.int64)
    if signed:
      levels = 2 * levels - ((1 << segment.level) - 1)
    if segment.level == 8:
      low = next(s for s in segments(layout, form) if s.level == 8 and not s.high)
      if segment.high:
        other = x[:, low.start : low.start + low.columns]
        np.testing.assert_array_equal((2 * part + other)[:, : segment.channels], levels)
    else:
      np.testing.assert_array_equal(part[:, : segment.channels], levels)
    lacking += part.sum(axis=1) * (segment.offset << segment.shift)
  np.testing.assert_array_equal(missing, lacking)


def test_weights_are_laid_out_once():
  weights = pack_weights(np.zeros((1, 1, 3, 2), np.uint8), LAYOUTS[2])
  laid = storage.relayout(weights)
  with pytest.raises(ValueError, match="storage 'file', got 'triton'"):
    storage.relayout(laid)
  with pytest.raises(ValueError, match="uint8"):
    storage.relayout(type(weights)(weights.codes[:-1], weights.layout, weights.kernel_shape))
