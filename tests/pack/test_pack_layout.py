"""Channel layouts, activation records and accumulator bounds."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetjax.core import Palette
from hetjax.core.quantize import accumulator_levels
from hetjax.pack import (
  ChannelLayout,
  accumulator_bound,
  check_accumulator,
  pack_activations,
  unpack_activations,
)
from hetjax.pack.accumulator import accumulator_limit

PALETTES = [(1, 2, 4), (2, 4, 8), (1, 4), (4, 8), (1, 2, 8), (1,), (8,)]


@st.composite
def layouts(draw, most=130):
  palette = draw(st.sampled_from(PALETTES))
  bits = draw(st.lists(st.sampled_from(palette), min_size=1, max_size=most))
  return ChannelLayout(tuple(bits), Palette(palette))


def test_static_facts():
  layout = ChannelLayout((1, 4, 2, 4, 1), Palette((1, 2, 4)))
  assert layout.channels == 5
  assert layout.order.dtype == np.int32
  assert layout.order.tolist() == [1, 3, 2, 0, 4]
  assert list(layout.counts.items()) == [(4, 2), (2, 1), (1, 2)]
  assert [layout.segment_bytes(p) for p in (4, 2, 1)] == [4, 4, 4]
  assert [layout.segment_offset(p) for p in (4, 2, 1)] == [0, 4, 8]
  assert layout.record_bytes == 12
  same = ChannelLayout([np.int8(p) for p in layout.bits], Palette((1, 2, 4)))
  assert same == layout
  assert hash(same) == hash(layout)
  assert ChannelLayout((4,) * 9, Palette()).counts == {4: 9, 2: 0, 1: 0}
  assert ChannelLayout((4,) * 9, Palette()).record_bytes == 8
  with pytest.raises(ValueError, match="read-only"):
    layout.order[0] = 0


@pytest.mark.parametrize(
  ("bits", "groups", "message"),
  [
    ((), 1, "at least one channel"),
    ((1, 8), 1, r"levels \(1, 2, 4\), got \[8\]"),
    ((1, 2), 0, "divide 2 channels, got 0"),
    ((1, 2, 4), 2, "divide 3 channels, got 2"),
  ],
)
def test_refuses(bits, groups, message):
  with pytest.raises(ValueError, match=message):
    ChannelLayout(bits, Palette(), groups)


def test_refuses_foreign_level():
  with pytest.raises(ValueError, match="level must be one of"):
    ChannelLayout((1,), Palette()).segment_bytes(8)


def naive_record(codes, layout):
  out = []
  for level in sorted(layout.palette.levels, reverse=True):
    row = []
    for u, p in zip(codes, layout.bits, strict=True):
      if p == level:
        row += [int(u) >> b & 1 for b in range(p)]
    row += [0] * (-len(row) % 32)
    out += [sum(row[i + b] << b for b in range(8)) for i in range(0, len(row), 8)]
  return out


@given(layouts(), st.integers(0, 2**32 - 1))
@settings(max_examples=120, deadline=None)
def test_records_are_those_of_the_naive_packer_and_invert_exactly(layout, seed):
  rng = np.random.default_rng(seed)
  codes = (rng.integers(0, 256, (2, 3, layout.channels)) & ((1 << layout.bits_array) - 1)).astype(
    np.uint8
  )
  records = pack_activations(codes, layout)
  assert records.shape == (2, 3, layout.record_bytes)
  assert records[1, 2].tolist() == naive_record(codes[1, 2], layout)
  np.testing.assert_array_equal(unpack_activations(records, layout), codes)


def test_refuses_activations_that_do_not_fit():
  layout = ChannelLayout((1, 4), Palette())
  with pytest.raises(ValueError, match="channel 0 must fit in 1 bits, got 2"):
    pack_activations(np.array([2, 2]), layout)
  with pytest.raises(ValueError, match="integers"):
    pack_activations(np.zeros(2), layout)
  with pytest.raises(ValueError, match=r"\[\*b, 2\]"):
    pack_activations(np.zeros(3, np.uint8), layout)
  with pytest.raises(ValueError, match=r"uint8\[\*b, 8\]"):
    unpack_activations(np.zeros(7, np.uint8), layout)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize(("palette", "bits"), [((1, 2), (2, 1, 2, 1)), ((1, 4), (4, 1, 1, 1))])
def test_bound_is_the_largest_of_all_inputs(palette, bits, signed):
  layout = ChannelLayout(bits, Palette(palette))
  rng = np.random.default_rng(len(palette) + bits[0])
  codes = (rng.integers(0, 16, (1, 1, 4, 3)) & ((1 << layout.bits_array) - 1)[:, None]).astype(
    np.uint8
  )
  inputs = np.array(list(itertools.product(*(range(1 << p) for p in bits))))
  pmax = layout.palette.pmax
  a = accumulator_levels(inputs, layout.bits_array, pmax, signed=signed, xp=np)
  top = ((1 << layout.bits_array) - 1).astype(np.uint8)[:, None]
  # The negated weights too, and weights that are all negative or all positive.
  for u in (codes, top - codes, codes * 0, codes * 0 + top):
    w = accumulator_levels(u[0, 0], layout.bits_array[:, None], pmax, signed=True, xp=np)
    bound = accumulator_bound(u, layout, signed)
    assert bound == np.abs(a @ w).max()
    assert bound <= accumulator_limit(layout, u.shape)


@pytest.mark.parametrize("signed", [True, False])
def test_bound_of_groups_is_the_largest_group_s(signed):
  rng = np.random.default_rng(3)
  bits = (4, 1, 2, 1, 1, 2)
  layout = ChannelLayout(bits, Palette(), 2)
  top = (1 << layout.bits_array.reshape(2, 3).T)[None, None, :, :, None]
  codes = (rng.integers(0, 256, (2, 2, 3, 2, 2)) % top).reshape(2, 2, 3, 4)
  parts = [
    accumulator_bound(
      codes[..., 2 * g : 2 * g + 2], ChannelLayout(bits[3 * g : 3 * g + 3], Palette()), signed
    )
    for g in range(2)
  ]
  assert accumulator_bound(codes, layout, signed) == max(parts)


def test_check_names_the_layer_and_accepts_the_limit():
  # 255 * 255 * 33025 = 2,147,450,625 fits in int32; one channel more does not.
  for channels, fits in ((33025, True), (33026, False)):
    layout = ChannelLayout((8,) * channels, Palette((8,)))
    codes = np.full((1, 1, channels, 1), 255, np.uint8)
    assert (accumulator_limit(layout, codes.shape) <= 2**31 - 1) == fits
    if fits:
      check_accumulator(codes, layout, True, "wide")
    else:
      with pytest.raises(ValueError, match=r"'wide'.*2147483647.*2147515650"):
        check_accumulator(codes, layout, False, "wide")
