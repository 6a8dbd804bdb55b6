"""The kernels beyond the contract suite: sizes of tiles, and whether they run at all."""

import jax
import numpy as np
import pytest

import pallas_kernels
from hetjax import ops
from hetjax.core import Palette
from hetjax.ops import dispatch, numpy_reference
from hetjax.pack import ChannelLayout, accumulator_bound, pack_activations, pack_weights
from pallas_kernels import layout as kernel_layout
from pallas_kernels import matmul, platform, support
from pallas_kernels.layout import TRITON, largest_sum, segments
from tests.contract.cases import Case

FLAT = {"padding": ((0, 0), (0, 0))}


def accumulators(case):
  records, weights = case.operands()
  with pallas_kernels.interpreted():
    got = ops.packed_conv(records, weights, **case.geometry, implementation="triton")
  return np.asarray(got), numpy_reference.conv_accumulator(records, weights, **case.geometry)


@pytest.mark.parametrize("tile", [matmul.Tile(16, 16), matmul.Tile(32, 64), matmul.Tile(64, 32)])
def test_every_tile_computes_the_same(tile, monkeypatch):
  monkeypatch.setattr(matmul, "tile_of", lambda outputs, rows: tile)
  np.testing.assert_array_equal(
    *accumulators(Case((1, 2, 4), (1, 2, 4), True, (2, 6, 7, 70), (3, 3, 70)))
  )


def test_matrix_units_saturate_so_sums_that_may_be_too_large_are_apart():
  """Codes sum to more than the accumulator: it may fit, as packing sees to, where they do not."""
  layout = ChannelLayout((4,) * 75_000 + (8,) * 32, Palette((4, 8)))
  assert largest_sum(segments(layout, TRITON), 1) >= 2**31
  a = np.full((9, layout.channels), 15, np.uint8)  # the largest level, unsigned
  w = np.full((1, 1, layout.channels, 3), 8, np.uint8)  # q = 1, u = 8: many times as much
  w[..., :2] = np.arange(layout.channels)[:, None] % 2 + 7  # q = -1, 1
  records, weights = pack_activations(a, layout)[None, None], pack_weights(w, layout)
  assert accumulator_bound(w, layout, False) < 2**31
  geometry = {"signed": False, "strides": (1, 1), "padding": FLAT["padding"]}
  geometry["kernel_dilation"] = (1, 1)
  with pallas_kernels.interpreted():
    got = ops.packed_conv(records, weights, **geometry, implementation="triton")
  expected = numpy_reference.conv_accumulator(records, weights, **geometry)
  np.testing.assert_array_equal(got, expected)
  few = ChannelLayout((4,) * 750 + (8,) * 32, Palette((4, 8)))
  assert largest_sum(segments(few, TRITON), 9) < 2**31


@pytest.mark.every_case
@pytest.mark.parametrize("palette", [(8,), (4,), (1, 2, 4), (1, 2, 8)], ids=str)
def test_accumulators_at_the_ends_of_their_words(palette):
  largest = max((2**p - 1) ** 2 * 4 ** (palette[-1] - p) for p in palette)
  channels = min((2**31 - 1) // largest, 40_000)
  for signed in (True, False):
    case = Case(palette, palette, signed, (1, 1, 9, channels), (1, 1, 3), codes="extreme", **FLAT)
    np.testing.assert_array_equal(*accumulators(case))


def test_a_wrong_shift_shows_in_the_numbers(monkeypatch):
  case = Case((1, 2, 4), (1, 2, 4), True, (1, 1, 9, 70), (1, 1, 3), **FLAT)
  right = kernel_layout.segments
  wrong = lambda layout, storage: tuple(
    s if s.level != 2 else kernel_layout.Segment(2, s.channels, s.width, s.start, s.shift + 1)
    for s in right(layout, storage)
  )
  monkeypatch.setattr("pallas_kernels.call.segments", wrong)
  got, expected = accumulators(case)
  assert (got != expected).any()


def test_without_a_gpu_it_says_so():
  if jax.default_backend() == "gpu":
    pytest.skip("there is one")
  assert "not 'gpu'" in dispatch.implementations()["triton"]
  with pytest.raises(ops.ImplementationUnavailable, match="'triton' cannot run"):
    dispatch.resolve("triton")
  with pallas_kernels.interpreted():
    assert dispatch.resolve("triton") == "triton"
    assert dispatch.resolve(None) != "triton"


@pytest.mark.parametrize(
  ("capability", "reason"), [("gfx90a", "no NVIDIA GPU"), ("7.5", "needs 8.0 or more"), ("8.9", "")]
)
def test_not_every_gpu_will_do(capability, reason, monkeypatch):
  class Device:
    device_kind = "some GPU"
    compute_capability = capability

  monkeypatch.setattr(support.jax, "default_backend", lambda: "gpu")
  monkeypatch.setattr(support.jax, "devices", lambda: [Device()])
  available, why = pallas_kernels.available("triton")
  assert (available, reason in why) == (not reason, True)
  assert not pallas_kernels.available("mosaic_gpu")[0]


def test_an_eager_kernel_is_compiled_once():
  case = Case((4,), (4,), True, (1, 1, 9, 40), (1, 1, 3), **FLAT)
  records, weights = case.operands()
  with pallas_kernels.interpreted():
    run = lambda: ops.packed_conv(records, weights, **case.geometry, implementation="triton")
    run()
    before = platform._compiled_once.cache_info()
    run()
  after = platform._compiled_once.cache_info()
  assert (after.misses, after.hits > before.hits) == (before.misses, True)


def test_vmap_over_nothing_gives_nothing():
  case = Case((1, 2, 4), (1, 2, 4), True, (1, 1, 9, 40), (1, 1, 3), **FLAT)
  records, weights = case.operands()
  run = lambda a: ops.packed_matmul(a, weights, signed=True, implementation="triton")
  with pallas_kernels.interpreted():
    assert jax.vmap(run)(np.repeat(records[0], 0, axis=0)).shape == (0, 9, 3)


def test_lowering_for_a_gpu_warns_of_nothing():
  """On a GPU nothing is around the lowering, and here warnings are errors."""
  case = Case((1, 2, 4), (1, 2, 4), True, (1, 1, 20, 70), (1, 1, 37), **FLAT)
  records, weights = case.operands()
  run = lambda a: ops.packed_conv(a, weights, **case.geometry, implementation="triton")
  device = jax.sharding.AbstractDevice(
    device_kind=support.CHIPS["a100"], num_cores=None, platform="gpu"
  )
  mesh = jax.sharding.AbstractMesh((), (), abstract_device=device)
  with pallas_kernels.interpreted(), jax.sharding.use_abstract_mesh(mesh):
    lowered = jax.jit(run).trace(records).lower(lowering_platforms=("cuda",))
  assert support.CALLS["triton"] in lowered.as_text()
