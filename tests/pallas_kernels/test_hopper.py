"""The matrix product for Hopper in Mosaic's simulator: accumulators equal, never close."""

import jax
import numpy as np
import pytest

import pallas_kernels
from hetjax import ops
from hetjax.ops import numpy_reference
from pallas_kernels import storage
from pallas_kernels.layout import MOSAIC, segments
from tests.contract import cases
from tests.contract.cases import Case

with pallas_kernels.interpreted():
  REASON = pallas_kernels.available(MOSAIC)[1]
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)


def product(palette, mix, signed, rows, channels, outputs, codes="random"):
  flat = {"padding": ((0, 0), (0, 0)), "codes": codes}
  return Case(palette, mix, signed, (1, 1, rows, channels), (1, 1, outputs), **flat)


def simulated(case):
  """The accumulator as `pallas_kernels.call` computes it, by the kernel for Hopper."""
  from pallas_kernels import hopper

  records, weights = case.operands()
  laid = storage.relayout(weights, MOSAIC)
  x, missing = storage.expand(records[0, 0], laid.layout, case.signed, MOSAIC)
  parts = segments(laid.layout, MOSAIC)
  sums = jax.jit(lambda x, *c: hopper.accumulate(x, *c, segments=parts, interpret=True))(
    x, *laid.codes
  )
  got = 2 * sums[:, : case.kernel[2]] - missing[:, None]
  return np.asarray(got), numpy_reference.conv_accumulator(records, weights, **case.geometry)[0, 0]


def products():
  """Every palette, the channels ragged, whole blocks of a level or slots of one alone."""
  found = []
  for i, palette in enumerate(cases.PALETTES):
    for signed in (True, False):
      channels = (13, 300, 1100)[(i + signed) % 3]
      found.append(product(palette, palette, signed, (9, 70)[i % 2], channels, (5, 65)[i % 2]))
  return found


@pytest.mark.parametrize("part", range(4))
def test_every_palette(part, request):
  mine = products()[part::4]
  for case in mine if request.config.getoption("--every-case") else mine[:: len(mine)]:
    np.testing.assert_array_equal(*simulated(case), err_msg=str(case))


def test_an_empty_segment_and_many_rows():
  np.testing.assert_array_equal(*simulated(product((1, 2, 4), (1, 4), True, 130, 200, 64)))


@pytest.mark.parametrize("palette", [(4,), (8,)], ids=str)
def test_sums_at_the_ends_of_their_words(palette):
  largest = (2 ** palette[0] - 1) ** 2
  channels = min((2**31 - 1) // largest, 20_000)
  case = product(palette, palette, True, 16, channels, 3, "extreme")
  np.testing.assert_array_equal(*simulated(case))


def test_one_by_one_under_vmap():
  """What the compiled kernel needs, with the kernel that stands in for it here."""
  case = product((1, 2, 4), (1, 2, 4), True, 3 * 12, 40, 7)
  records, weights = case.operands()
  expected = numpy_reference.conv_accumulator(records, weights, **case.geometry)[0, 0]
  records = records.reshape(3, 12, -1)
  run = lambda a: ops.packed_matmul(a, weights, signed=True, implementation="mosaic_gpu")
  with pallas_kernels.interpreted():
    got = jax.jit(jax.vmap(run))(records)
  np.testing.assert_array_equal(np.asarray(got).reshape(36, 7), expected)
