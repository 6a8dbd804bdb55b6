"""The one suite that every backend runs: integer accumulators equal, never close."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax import ops
from hetjax.core import Palette
from hetjax.ops import numpy_reference
from hetjax.pack import ChannelLayout
from tests.contract import cases

LEAST = np.finfo(np.float32).tiny / 2.7  # times 1 / 0.37 it rounds to about the least normal


def assert_same_accumulators(case, backend):
  records, weights = case.operands()
  expected = numpy_reference.conv_accumulator(records, weights, **case.geometry)
  assert np.abs(expected).max(initial=0) < 2**31, "the case itself overflows"
  run = jax.jit(
    lambda a, w: ops.packed_conv(a, w, **case.geometry, implementation=backend.implementation)
  )
  got = run(records, weights)
  assert got.dtype == jnp.int32
  np.testing.assert_array_equal(np.asarray(got), expected, err_msg=str(case))


@pytest.mark.parametrize("palette", cases.PALETTES, ids=lambda p: "".join(map(str, p)))
def test_every_palette_and_mix(palette, backend, some):
  for case in some([case for case in cases.mixes() if case.palette == palette]):
    assert_same_accumulators(case, backend)


@pytest.mark.parametrize("part", range(4))
def test_every_stride_dilation_and_padding(part, backend, some):
  for case in some(cases.geometries()[part::4]):
    assert_same_accumulators(case, backend)


@pytest.mark.parametrize("part", range(4))
def test_groups_and_depthwise(part, backend, some):
  for case in some(cases.grouped()[part::4]):
    assert_same_accumulators(case, backend)


@pytest.mark.parametrize("channels", cases.channel_counts(), ids=lambda c: f"{c[0]}-{c[-1]}")
def test_every_channel_count(channels, backend, some):
  for count in some(channels):
    palette = ((1, 2, 4), (2, 4, 8), (1, 4))[count % 3]
    outputs = 1 + count % 67
    case = cases.Case(
      palette, palette, count % 2 == 0, (1, 1, 3, count), (1, 1, outputs), padding=((0, 0), (0, 0))
    )
    assert_same_accumulators(case, backend)


@pytest.mark.parametrize("case", cases.extremes(), ids=str)
def test_accumulators_at_the_ends_of_their_words(case, backend):
  assert_same_accumulators(case, backend)


@pytest.mark.parametrize("batch", [1, 2, 3, 4, 5, 17])
def test_matrix_product_keeps_leading_axes(batch, backend):
  case = cases.Case(
    (1, 2, 4), (1, 2, 4), False, (1, 2, batch, 50), (1, 1, 20), padding=((0, 0),) * 2
  )
  records, weights = case.operands()
  expected = numpy_reference.conv_accumulator(records, weights, **case.geometry)
  got = ops.packed_matmul(records[0], weights, signed=False, implementation=backend.implementation)
  np.testing.assert_array_equal(np.asarray(got), expected[0])
  one = ops.packed_matmul(
    records[0, 0, 0], weights, signed=False, implementation=backend.implementation
  )
  np.testing.assert_array_equal(np.asarray(one), expected[0, 0, 0])


@pytest.mark.parametrize("signed", [True, False])
def test_prepared_weights_compute_the_same(signed, backend):
  case = cases.Case((1, 2, 4), (1, 2, 4), signed, (2, 6, 6, 21), (3, 3, 9))
  records, weights = case.operands()
  prepared = ops.prepare_weights(weights, backend.implementation)
  run = lambda w: ops.packed_conv(
    records, w, **case.geometry, implementation=backend.implementation
  )
  np.testing.assert_array_equal(np.asarray(run(prepared)), np.asarray(run(weights)))


def test_epilogue_is_one_fused_multiply_add(backend):
  case = cases.Case((1, 2, 4), (1, 2, 4), False, (2, 6, 6, 33), (3, 3, 70))
  records, weights = case.operands()
  rng = np.random.default_rng(1)
  scale = rng.uniform(1e-4, 1e-2, 70).astype(np.float32)
  bias = rng.normal(size=70).astype(np.float32)
  t = numpy_reference.conv_accumulator(records, weights, **case.geometry)
  # Products of 32- and 24-bit integers and their sum with a float32 are exact enough in longdouble.
  exact = t.astype(np.longdouble) * scale.astype(np.longdouble) + bias.astype(np.longdouble)
  got = np.asarray(
    ops.packed_conv(
      records, weights, scale, bias, **case.geometry, implementation=backend.implementation
    )
  )
  assert got.dtype == np.float32
  np.testing.assert_array_equal(got, exact.astype(np.float32))


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("palette", cases.PALETTES, ids=lambda p: "".join(map(str, p)))
def test_quantize_pack_equals_the_reference_bit_for_bit(palette, signed, backend, some):
  rng = np.random.default_rng(len(palette) + signed)
  for channels in some((1, 7, 32, 65, 130)):
    bits = tuple(int(b) for b in rng.choice(palette, channels))
    layout = ChannelLayout(bits, Palette(palette))
    inv_beta = np.float32(1.0 / 0.37)
    x = rng.normal(scale=0.8, size=(3, 5, channels)).astype(np.float32)
    # Thresholds of the finest grid and their neighbours, and what is not a number.
    x[0, 0] = (np.arange(channels) - channels // 2) * np.float32(0.37) / 128
    x[0, 1] = np.nextafter(x[0, 0], np.float32(1))
    x[0, 2] = np.nextafter(x[0, 0], np.float32(-1))
    x[1, 0] = np.resize(
      np.float32([np.nan, np.inf, -np.inf, 1e-40, -1e-40, 3e38, -0.0, -LEAST]), channels
    )
    expected = numpy_reference.quantize_pack(x, inv_beta, layout, signed)
    got = ops.quantize_pack(
      x, inv_beta, layout=layout, signed=signed, implementation=backend.implementation
    )
    np.testing.assert_array_equal(np.asarray(got), expected)


def test_works_under_jit_and_vmap(backend):
  case = cases.Case((1, 2, 4), (1, 2, 4), True, (4, 5, 6, 19), (3, 3, 7))
  records, weights = case.operands()
  expected = numpy_reference.conv_accumulator(records, weights, **case.geometry)
  conv = lambda a: ops.packed_conv(
    a, weights, **case.geometry, implementation=backend.implementation
  )
  np.testing.assert_array_equal(np.asarray(jax.jit(conv)(records)), expected)
  mapped = jax.jit(jax.vmap(lambda a: conv(a[None])[0]))(records)
  np.testing.assert_array_equal(np.asarray(mapped), expected)
  as_argument = jax.jit(
    lambda a, w: ops.packed_conv(a, w, **case.geometry, implementation=backend.implementation)
  )
  np.testing.assert_array_equal(np.asarray(as_argument(records, weights)), expected)


def test_an_empty_batch_or_image_gives_an_empty_result(backend):
  case = cases.Case((1, 2, 4), (1, 2, 4), True, (1, 5, 6, 19), (3, 3, 7))
  records, weights = case.operands()
  run = lambda a, **kw: ops.packed_conv(
    a, weights, **(case.geometry | kw), implementation=backend.implementation
  )
  assert run(records[:0]).shape == (0, 5, 6, 7)
  assert run(records[:, :1], padding="VALID").shape == (1, 0, 4, 7)
