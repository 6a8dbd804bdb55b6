"""quantize_pack against the NumPy definition, bit for bit, on values chosen to break it."""

import numpy as np
import pytest

from hetjax import xla_cpu
from hetjax.core.palette import Palette
from hetjax.core.quantize import encode, to_grid
from hetjax.pack import ChannelLayout, pack_activations
from tests.xla_cpu import capi
from tests.xla_cpu.cases import PALETTES


@pytest.fixture(params=xla_cpu.isas() if xla_cpu.available()[0] else ("scalar",))
def isa(request):
  with xla_cpu.force_isa(request.param):
    yield request.param


def expected(layout, x, inv_beta, signed):
  with np.errstate(over="ignore", invalid="ignore", under="ignore"):
    steps = to_grid(x, np.float32(inv_beta), np)
    codes = encode(steps, layout.bits_array, signed=signed, xp=np)
  return pack_activations(codes.astype(np.uint8), layout)


def awkward_values(rng, count: int) -> np.ndarray:
  """Ties of all levels and their neighbours, ends of the range, denormals, infinities, NaN."""
  ties = np.arange(-520, 521, dtype=np.float32) / np.float32(256)
  special = np.array(
    [0.0, -0.0, 1e-45, -1e-45, 1e-38, -1e-38, 3e38, -3e38, np.inf, -np.inf, np.nan, 2, -2, 4],
    np.float32,
  )
  pool = np.concatenate(
    [ties, np.nextafter(ties, np.float32(9)), np.nextafter(ties, np.float32(-9)), 2 * ties, special]
  )
  normal = rng.standard_normal(count).astype(np.float32) * 2
  return np.where(rng.random(count) < 0.7, rng.choice(pool, count), normal)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("palette", PALETTES, ids=str)
def test_records_equal_the_definition(isa, palette, signed):
  rng = np.random.default_rng([PALETTES.index(palette), signed])
  for channels in (1, 3, 8, 31, 33, 64, 200):
    bits = rng.choice(palette, channels, p=rng.dirichlet(np.ones(len(palette))))
    layout = ChannelLayout(tuple(bits.tolist()), Palette(palette))
    for inv_beta in (1.0, 0.37, 1e-30, 3e38, float("inf"), float("nan")):
      x = awkward_values(rng, 40 * channels).reshape(40, channels)
      got = capi.quantize_pack(layout, x, inv_beta, signed)
      np.testing.assert_array_equal(got, expected(layout, x, inv_beta, signed))


def test_every_single_tie_of_every_level(isa):
  for level in (1, 2, 4, 8):
    for signed in (False, True):
      steps = np.arange(-2 * 2**level, 4 * 2**level + 1, dtype=np.float32) / np.float32(2**level)
      x = np.concatenate([steps, np.nextafter(steps, np.float32(-9))])[:, None]
      layout = ChannelLayout((level,), Palette((level,)))
      got = capi.quantize_pack(layout, np.ascontiguousarray(x), 1.0, signed)
      np.testing.assert_array_equal(got, expected(layout, x, 1.0, signed))


def test_wrong_record_size_is_refused():
  layout = ChannelLayout((1, 2, 4), Palette((1, 2, 4)))
  layer = capi.layer_of(layout)
  with pytest.raises(RuntimeError, match="positions must be 0"):
    capi.library.call(
      "hetjax_cpu_quantize_pack", capi.ctypes.byref(layer), None,
      capi.ctypes.c_int64(-1), capi.ctypes.c_float(1), 1, None, capi.ctypes.c_int64(0),
    )  # fmt: skip
