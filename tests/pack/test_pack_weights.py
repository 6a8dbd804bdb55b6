"""Weights: layout, inverse, zero pads, sizes; a bit-by-bit packer as the independent check."""

import time

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetjax.core import Palette
from hetjax.pack import ChannelLayout, PackedWeights, pack_weights, unpack_weights, weight_bytes
from hetjax.pack.weights import first_nonzero_pad

PALETTES = [(1, 2, 4), (2, 4, 8), (1, 4), (4, 8), (1, 2, 8), (1,), (2,), (4,), (8,)]


def naive_bytes(codes, bits, palette, groups):
  """The documented layout, one bit at a time."""
  kh, kw, per_group, outputs = codes.shape
  out = []
  for level in sorted(palette, reverse=True):
    for n in range(outputs):
      group = n // (outputs // groups)
      row = []
      for y in range(kh):
        for x in range(kw):
          for c in range(per_group):
            if bits[group * per_group + c] == level:
              row += [int(codes[y, x, c, n]) >> b & 1 for b in range(level)]
      row += [0] * (-len(row) % 8)
      out += [sum(row[i + b] << b for b in range(8)) for i in range(0, len(row), 8)]
  return out


def random_codes(rng, kernel_shape, bits, groups):
  group = np.arange(kernel_shape[3]) // (kernel_shape[3] // groups)
  channel = group[None, :] * kernel_shape[2] + np.arange(kernel_shape[2])[:, None]
  return (rng.integers(0, 256, kernel_shape) & ((1 << np.asarray(bits)[channel]) - 1)).astype(
    np.uint8
  )


@st.composite
def layers(draw):
  palette = draw(st.sampled_from(PALETTES))
  groups = draw(st.integers(1, 4))
  per_group, per_output = draw(st.integers(1, 19)), draw(st.integers(1, 4))
  kernel_shape = (
    draw(st.integers(1, 3)),
    draw(st.integers(1, 3)),
    per_group,
    groups * per_output,
  )
  channels = per_group * groups
  bits = draw(st.lists(st.sampled_from(palette), min_size=channels, max_size=channels))
  rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
  codes = random_codes(rng, kernel_shape, bits, groups)
  return codes, ChannelLayout(tuple(bits), Palette(palette), groups)


@given(layers())
@settings(max_examples=150, deadline=None)
def test_bytes_are_those_of_the_naive_packer_and_invert_exactly(layer):
  codes, layout = layer
  packed = pack_weights(codes, layout)
  expected = naive_bytes(codes, layout.bits, layout.palette.levels, layout.groups)
  assert packed.codes.tolist() == expected
  assert packed.codes.size == weight_bytes(layout, codes.shape)
  unpacked = unpack_weights(packed)
  assert unpacked.dtype == np.uint8
  np.testing.assert_array_equal(unpacked, codes)
  assert first_nonzero_pad(packed) is None


@given(layers())
@settings(max_examples=60, deadline=None)
def test_size_is_what_the_bit_counts_say(layer):
  codes, layout = layer
  kh, kw, per_group, outputs = codes.shape
  expected = 0
  for level in layout.palette.levels:
    for n in range(outputs):
      g = n // (outputs // layout.groups)
      mine = layout.bits[g * per_group : (g + 1) * per_group].count(level)
      expected += -(-kh * kw * mine * level // 8)
  assert weight_bytes(layout, codes.shape) == expected


@given(layers(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_byte_differs_exactly_where_a_pad_or_code_bit_does(layer, data):
  codes, layout = layer
  packed = pack_weights(codes, layout)
  at = data.draw(st.integers(0, packed.codes.size - 1))
  flipped = packed.codes.copy()
  flipped[at] ^= 1 << data.draw(st.integers(0, 7))
  other = PackedWeights(flipped, layout, codes.shape)
  changed = int((unpack_weights(other) != codes).sum())
  assert (changed, first_nonzero_pad(other)) in ((1, None), (0, at))


def test_hand_derived_bytes():
  # Channels of 4, 1, 2, 1 bits, two outputs. Output 0: 4 bits 0xB; 2 bits 0b10; 1 bit 1, 0.
  # Output 1: 4 bits 0x3; 2 bits 0b01; 1 bit 1, 1.
  codes = np.array([[11, 3], [1, 1], [2, 1], [0, 1]], np.uint8).reshape(1, 1, 4, 2)
  packed = pack_weights(codes, ChannelLayout((4, 1, 2, 1), Palette()))
  assert packed.codes.tolist() == [0x0B, 0x03, 0b10, 0b01, 0b01, 0b11]


def test_large_and_depthwise_layers_pack_fast():
  rng = np.random.default_rng(0)
  for kernel_shape, groups in (((3, 3, 512, 512), 1), ((3, 3, 1, 1024), 1024)):
    bits = rng.choice([1, 2, 4], kernel_shape[2] * groups)
    codes = random_codes(rng, kernel_shape, bits, groups)
    layout = ChannelLayout(tuple(bits.tolist()), Palette(), groups)
    start = time.process_time()
    packed = pack_weights(codes, layout)
    assert time.process_time() - start < 1.0
    np.testing.assert_array_equal(unpack_weights(packed), codes)


def test_is_a_pytree_of_its_arrays():
  layout = ChannelLayout((2, 2, 2), Palette())
  packed = pack_weights(np.ones((1, 1, 3, 2), np.uint8), layout)
  leaves, tree = jax.tree.flatten(packed)
  assert len(leaves) == 1
  assert hash(tree) == hash(jax.tree.structure(packed))
  out = jax.jit(lambda w: w)(packed)
  assert (out.layout, out.kernel_shape, out.storage) == (layout, (1, 1, 3, 2), "file")
  np.testing.assert_array_equal(unpack_weights(out), np.ones((1, 1, 3, 2)))


@pytest.mark.parametrize(
  ("codes", "message"),
  [
    (np.zeros((1, 1, 4, 2)), "integers"),
    (np.zeros((1, 1, 3, 2), np.uint8), "4 channels a group"),
    (np.zeros((1, 4, 2), np.uint8), "four positive sizes"),
    (np.full((1, 1, 4, 2), 2, np.uint8), r"channel 1 must be 0 \.\. 1 \(1 bits\), got 2"),
    (np.full((1, 1, 4, 2), -1), "channel 0 must be"),
    (np.full((1, 1, 4, 2), 256), "channel 0 must be"),
  ],
)
def test_refuses_codes_that_do_not_fit(codes, message):
  with pytest.raises(ValueError, match=message):
    pack_weights(codes, ChannelLayout((4, 1, 2, 1), Palette()))


def test_refuses_outputs_that_groups_do_not_divide_and_foreign_storage():
  layout = ChannelLayout((4, 1, 2, 1), Palette(), 2)
  with pytest.raises(ValueError, match="multiple of the 2 groups"):
    pack_weights(np.zeros((1, 1, 2, 3), np.uint8), layout)
  packed = pack_weights(np.zeros((1, 1, 2, 2), np.uint8), layout)
  with pytest.raises(ValueError, match="storage 'file'"):
    unpack_weights(PackedWeights(packed.codes, layout, packed.kernel_shape, "other"))
  with pytest.raises(ValueError, match=r"uint8\[\d+\]"):
    unpack_weights(PackedWeights(packed.codes[:-1], layout, packed.kernel_shape))
