"""The engine without JAX: every instruction set gives the accumulators of the definition."""

import math

import numpy as np
import pytest

from hetjax import xla_cpu
from hetjax.core.palette import Palette
from hetjax.pack import ChannelLayout
from tests.xla_cpu import capi
from tests.xla_cpu.cases import PALETTES, Case, random_case, random_codes

CASES_PER_PALETTE = 90


@pytest.mark.parametrize("palette", PALETTES, ids=str)
def test_random_layers(isa, palette):
  rng = np.random.default_rng([PALETTES.index(palette), 7])
  for number in range(CASES_PER_PALETTE):
    case = random_case(rng, palette)
    expected = case.expected()
    got = capi.run_case(case, expected.shape)
    np.testing.assert_array_equal(got, expected, err_msg=f"case {number}: {case.geometry}")


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("palette", PALETTES, ids=str)
def test_largest_accumulators(isa, palette, signed):
  """All codes at the ends and many channels: no partial sum may saturate or lose bits."""
  pmax, pmin = palette[-1], palette[0]
  step = 4 ** (pmax - pmin) * (2**pmin - 1) ** 2
  worst = max(step, (2**pmax - 1) ** 2)
  channels = min(4000, (2**31 - 1) // worst)
  bits = np.resize(np.asarray(palette), channels)
  layout = ChannelLayout(tuple(bits.tolist()), Palette(palette))
  tops = (1 << bits) - 1
  for a_top, w_top in ((1, 1), (1, 0), (0, 1), (0, 0)):
    case = Case(
      layout=layout,
      a_codes=np.broadcast_to(a_top * tops, (1, 1, 5, channels)).astype(np.uint8),
      w_codes=np.broadcast_to(w_top * tops[:, None], (1, 1, channels, 9)).astype(np.uint8),
      signed=signed,
      strides=(1, 1),
      padding=((0, 0), (0, 0)),
      kernel_dilation=(1, 1),
    )
    expected = case.expected()
    assert np.abs(expected).max() < 2**31
    np.testing.assert_array_equal(capi.run_case(case, expected.shape), expected)


@pytest.mark.parametrize("levels", [(1, 2, 4), (1,), (4, 8), (1, 2, 8)], ids=str)
def test_large_matrices(isa, levels):
  """Matrices that do not stay in cache have a layout of their own; ragged counts on every side."""
  rng = np.random.default_rng(len(levels))
  channels, outputs = 2051, 1555
  layout = ChannelLayout(tuple(rng.choice(levels, channels).tolist()), Palette(levels))
  for signed, positions in ((True, 1), (True, 4), (False, 7)):
    case = Case(
      layout=layout,
      a_codes=random_codes(rng, (1, 1, positions, channels), layout.bits_array, True),
      w_codes=random_codes(rng, (1, 1, channels, outputs), layout.bits_array[:, None], True),
      signed=signed, strides=(1, 1), padding=((0, 0), (0, 0)), kernel_dilation=(1, 1),
    )  # fmt: skip
    expected = case.expected()
    np.testing.assert_array_equal(capi.run_case(case, expected.shape), expected)


def test_epilogue_rounds_once(isa):
  rng = np.random.default_rng(3)
  for _ in range(40):
    case = random_case(rng)
    expected = case.expected()
    n = expected.shape[-1]
    scale = rng.standard_normal(n).astype(np.float32)
    # Biases near -T * scale make the rounding of the product visible.
    bias = (-scale * rng.choice(expected.ravel(), n) if expected.size else scale).astype(np.float32)
    got = capi.run_case(case, expected.shape, scale, bias)
    # float64 holds the product of two float32 exactly; one more rounding of the sum is harmless
    # except on ties, which fsum of the exact parts decides.
    t = expected.astype(np.float32).astype(np.float64)
    exact = t * scale.astype(np.float64)
    wanted = (exact + bias.astype(np.float64)).astype(np.float32)
    wrong = np.flatnonzero(got.ravel() != wanted.ravel())
    for i in wrong.tolist():
      k = i % n
      total = math.fsum([exact.ravel()[i], float(bias[k])])
      assert abs(total - float(got.ravel()[i])) <= abs(total - float(wanted.ravel()[i]))


def test_foreign_bits_in_records_are_ignored(isa):
  """Pad bits of a record that are not zero, which no packer writes, change nothing."""
  rng = np.random.default_rng(11)
  for levels in ((1,), (2,), (4,), (8,), (1, 4, 8)):
    bits = np.resize(np.asarray(levels), 7)
    layout = ChannelLayout(tuple(bits.tolist()), Palette(levels))
    case = Case(
      layout=layout,
      a_codes=random_codes(rng, (1, 1, 5, 7), layout.bits_array, False),
      w_codes=random_codes(rng, (1, 1, 7, 5), layout.bits_array[:, None], False),
      signed=True, strides=(1, 1), padding=((0, 0), (0, 0)), kernel_dilation=(1, 1),
    )  # fmt: skip
    tops = ((1 << layout.bits_array) - 1).astype(np.uint8)
    full = np.broadcast_to(tops, case.a_codes.shape)
    pad = ~Case(**{**vars(case), "a_codes": full}).records
    layer, storage, corrections = capi.prepared(case)
    out = np.zeros((1, 1, 5, 5), np.int32)
    dirty = case.records | pad
    assert (dirty != case.records).any()
    capi.conv(layer, capi.geometry_of(case), dirty, storage, corrections, None, None, True, out)
    np.testing.assert_array_equal(out, case.expected())


def test_wrong_sizes_and_layers_are_refused():
  case = random_case(np.random.default_rng(0), (1, 2, 4))
  expected = case.expected()
  layer, storage, corrections = capi.prepared(case)
  out = np.zeros(expected.shape, np.int32)
  records, geometry = case.records, capi.geometry_of(case)

  def refused(match, *, layer=layer, geometry=geometry, records=records, storage=storage, out=out):
    with pytest.raises(RuntimeError, match=match):
      capi.conv(layer, geometry, records, storage, corrections, None, None, True, out)

  refused("bytes of the records must be .* got", records=records.ravel()[:-1])
  refused("bytes of the prepared weights must be", storage=storage[:-1])
  refused("outputs must be", out=np.zeros(out.size + 1, np.int32))
  bad = capi.geometry_of(case)
  bad.strides[0] = 0
  refused("stride must be 1", geometry=bad)
  bad = capi.geometry_of(case)
  bad.padding[2] = -1
  refused("padding must be 0", geometry=bad)
  bad = capi.layer_of(case.layout, case.w_codes.shape)
  bad.groups = case.layout.channels + 1
  refused("groups must be 1", layer=bad)
  levels = np.asarray([1, 2, 3], np.int32)
  bad = capi.layer_of(case.layout, case.w_codes.shape)
  bad.levels = levels.ctypes.data
  refused("palette levels must be among", layer=bad)


def test_forcing_a_missing_instruction_set_is_an_error():
  with (
    pytest.raises(RuntimeError, match="'neon' cannot run here; available: scalar"),
    xla_cpu.force_isa("neon"),
  ):
    pass


def test_forcing_nests_and_restores():
  before = xla_cpu.active_isa()
  with xla_cpu.force_isa("scalar"):
    with xla_cpu.force_isa(xla_cpu.isas()[-1]):
      assert xla_cpu.active_isa() == xla_cpu.isas()[-1]
    assert xla_cpu.active_isa() == "scalar"
  assert xla_cpu.active_isa() == before


def test_compiler_is_named():
  assert xla_cpu.compiler().split()[0] in ("clang", "gcc")
