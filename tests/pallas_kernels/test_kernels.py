"""The kernels beyond the contract suite: sizes of tiles, and whether they run at all."""

import jax
import numpy as np
import pytest

import pallas_kernels
from hetjax import ops
from hetjax.ops import dispatch, numpy_reference
from pallas_kernels import layout as kernel_layout
from pallas_kernels import matmul
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


@pytest.mark.parametrize("palette", [(8,), (4,), (1, 2, 4), (1, 2, 8)], ids=str)
def test_matrix_units_at_the_ends_of_their_words(palette):
  """Their sums saturate rather than wrap: none may be beyond the ends before all are added."""
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
