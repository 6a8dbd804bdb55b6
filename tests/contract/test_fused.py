"""Fused layers on every backend: values as the reference's, records equal bit for bit."""

import itertools

import jax
import numpy as np
import pytest

from hetjax import ops
from hetjax.core import Palette
from hetjax.ops import numpy_reference
from hetjax.pack import ChannelLayout
from tests.contract.cases import Case

INV_BETA = np.float32(1 / 0.37)
ACTIVATIONS = {
  None: lambda y: y,
  "relu": lambda y: np.maximum(y, 0),
  "relu6": lambda y: np.clip(y, 0, 6),
}
CASES = [
  Case((1, 2, 4), (1, 2, 4), False, (2, 6, 7, 21), (3, 3, 33)),
  Case((2, 4, 8), (2, 4, 8), True, (1, 5, 5, 13), (3, 3, 70), 1, (2, 2), ((0, 1), (1, 2))),
  Case((8,), (8,), True, (2, 9, 8, 3), (5, 5, 16), 1, (2, 2), ((2, 2), (2, 2))),
  Case((1,), (1,), False, (1, 4, 4, 70), (1, 1, 9), padding=((0, 0), (0, 0))),
  Case((1, 4), (1, 4), False, (2, 6, 5, 12), (3, 3, 18), 3, dilation=(2, 1)),
  Case((1, 2, 4), (1, 2, 4), True, (2, 6, 5, 40), (3, 3, 40), 40),  # depthwise
]


def consumers(outputs, count, seed=0):
  """Consumers with layouts of their own, signed and unsigned by turns."""
  rng = np.random.default_rng(seed)
  found = []
  for i, palette in zip(range(count), itertools.cycle(((1, 2, 4), (8,), (2, 8))), strict=False):
    bits = tuple(int(b) for b in rng.choice(palette, outputs))
    scale = np.float32(rng.uniform(0.5, 3))
    found.append(ops.Requantize(scale, ChannelLayout(bits, Palette(palette)), i % 2 == 0))
  return tuple(found)


def expected_values(t, scale, bias, residual, activation):
  """float64 values; the single rounding of the fma is below the tolerance."""
  y = t.astype(np.float64) * scale.astype(np.float64) + bias.astype(np.float64)
  if residual is not None:
    y = y.astype(np.float32).astype(np.float64) + residual
  return ACTIVATIONS[activation](y)


def assert_close(got, expected, parts):
  """Within 2 ulp of the largest of `parts`, which what rounds once or twice can be off by."""
  ulp = np.spacing(np.maximum.reduce([np.abs(p) for p in parts]).astype(np.float32))
  assert float((np.abs(np.asarray(got) - expected) / ulp.astype(np.float64)).max()) <= 2.0


def operands(case, with_residual):
  records, weights = case.operands()
  rng = np.random.default_rng(7)
  t = numpy_reference.conv_accumulator(records, weights, **case.geometry)
  outputs = case.kernel[2]
  scale = (rng.uniform(1, 3, outputs) / max(1, np.abs(t).max())).astype(np.float32)
  bias = rng.normal(size=outputs).astype(np.float32)
  residual = rng.normal(size=t.shape).astype(np.float32) if with_residual else None
  return records, weights, t, scale, bias, residual


# Every activation with and without a residual, two of the six on each case.
EPILOGUES = list(itertools.product(ACTIVATIONS, (False, True)))
COMBINATIONS = [
  (case, *EPILOGUES[(i + j) % len(EPILOGUES)]) for i, case in enumerate(CASES) for j in (0, 3)
]


@pytest.mark.parametrize(("case", "activation", "with_residual"), COMBINATIONS, ids=str)
def test_values_and_records(case, activation, with_residual, backend):
  records, weights, t, scale, bias, residual = operands(case, with_residual)
  readers = consumers(case.kernel[2], 3)
  run = lambda keep, implementation=backend.implementation: jax.jit(
    lambda a, w, r, q: ops.fused_conv(
      a, w, scale, bias, **case.geometry, residual=r, activation=activation, requantize=q,
      keep_values=keep, implementation=implementation,
    )
  )(records, weights, residual, readers)  # fmt: skip
  values, packed = run(True)
  np.testing.assert_array_equal(values, run(True, "reference")[0])
  expected = expected_values(t, scale, bias, residual, activation)
  parts = [expected, t * scale.astype(np.float64), bias + 0 * expected]
  assert_close(values, expected, parts if residual is None else [*parts, residual])
  for reader, got in zip(readers, packed, strict=True):
    want = numpy_reference.quantize_pack(values, reader.inv_beta, reader.layout, reader.signed)
    np.testing.assert_array_equal(got, want)
  nothing, alone = run(False)
  assert nothing is None
  for got, want in zip(alone, packed, strict=True):
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_float_input_is_quantized_on_the_way_in(case, backend):
  _, weights, _, scale, bias, _ = operands(case, False)
  x = np.random.default_rng(3).normal(scale=0.8, size=case.shape).astype(np.float32)
  records = numpy_reference.quantize_pack(x, INV_BETA, weights.layout, case.signed)
  rest = {"requantize": consumers(case.kernel[2], 1), "implementation": backend.implementation}
  run = lambda x, **kw: jax.jit(
    lambda x, w: ops.fused_conv(x, w, scale, bias, **case.geometry, **rest, **kw)
  )(x, weights)
  jax.tree.map(np.testing.assert_array_equal, run(x, inv_beta=INV_BETA), run(records))


@pytest.mark.parametrize("case", [CASES[0], CASES[-1]], ids=str)
def test_a_residual_that_is_read_again_stays(case, backend):
  """Values may take its place only where nothing else reads it: another output, another layer."""
  records, weights, _, scale, bias, residual = operands(case, True)

  def run(records, weights, r):
    r = r + 1.0  # the program's own, no argument
    layer = lambda r: ops.fused_conv(
      records, weights, scale, bias, **case.geometry, residual=r,
      implementation=backend.implementation,
    )[0]  # fmt: skip
    first = layer(r)
    return first, layer(first), layer(r), r

  first, second, again, after = jax.jit(run)(records, weights, residual)
  np.testing.assert_array_equal(after, residual + np.float32(1))
  np.testing.assert_array_equal(first, again)
  assert np.any(np.asarray(first) != np.asarray(second))


def test_a_residual_that_is_the_input_too(backend):
  case = Case((1, 2, 4), (1, 2, 4), False, (2, 6, 7, 33), (3, 3, 33))
  _, weights, _, scale, bias, _ = operands(case, False)
  x = np.random.default_rng(3).normal(scale=0.8, size=case.shape).astype(np.float32)
  layer = lambda x, w, r: ops.fused_conv(
    x, w, scale, bias, inv_beta=INV_BETA, **case.geometry, residual=r,
    implementation=backend.implementation,
  )[0]  # fmt: skip
  same = jax.jit(lambda x, w: layer(x * 2.0, w, x * 2.0))(x, weights)
  np.testing.assert_array_equal(same, jax.jit(layer)(x * 2, weights, x * 2))


@pytest.mark.parametrize("signed", [True, False])
def test_unit_scale_shows_equal_accumulators(signed, backend):
  """With scale 1 and bias 0 the values are T itself, small enough for float32."""
  case = Case((1, 2, 4), (1, 2, 4), signed, (2, 6, 6, 21), (3, 3, 9))
  records, weights = case.operands()
  t = numpy_reference.conv_accumulator(records, weights, **case.geometry)
  assert np.abs(t).max() < 2**24
  values, _ = ops.fused_conv(
    records, weights, np.ones(9, np.float32), np.zeros(9, np.float32), **case.geometry,
    implementation=backend.implementation,
  )  # fmt: skip
  np.testing.assert_array_equal(values, t)


@pytest.mark.parametrize("lead", [(), (1,), (3,), (2, 5), (2, 3, 4)], ids=str)
def test_matrix_product_keeps_leading_axes(lead, backend):
  rng = np.random.default_rng(0)
  case = Case((1, 2, 4), (1, 2, 4), True, (1, 1, 24, 50), (1, 1, 20), padding=((0, 0),) * 2)
  records, weights, t, scale, bias, _ = operands(case, False)
  size = int(np.prod(lead))
  a, t = records[0, 0, :size].reshape(*lead, -1), t[0, 0, :size].reshape(*lead, 20)
  residual = rng.normal(size=t.shape).astype(np.float32)
  reader = consumers(20, 1)
  values, (packed,) = ops.fused_matmul(
    a, weights, scale, bias, signed=True, residual=residual, activation="relu",
    requantize=reader, implementation=backend.implementation,
  )  # fmt: skip
  expected = expected_values(t, scale, bias, residual, "relu")
  assert values.shape == expected.shape
  assert_close(values, expected, [expected, residual, t * scale.astype(np.float64)])
  want = numpy_reference.quantize_pack(values, reader[0].inv_beta, reader[0].layout, True)
  np.testing.assert_array_equal(packed, want)


def test_prepared_weights_an_empty_batch_and_vmap(backend):
  case = CASES[0]
  records, weights, _, scale, bias, _ = operands(case, False)
  reader = consumers(case.kernel[2], 1)
  run = lambda a, w: ops.fused_conv(
    a, w, scale, bias, **case.geometry, requantize=reader, implementation=backend.implementation
  )
  expected = run(records, weights)
  same = lambda got: jax.tree.map(np.testing.assert_array_equal, got, expected)
  prepared = ops.prepare_weights(weights, backend.implementation)
  same(run(records, prepared))
  mapped = jax.jit(jax.vmap(lambda a: run(a[None], prepared)))(records)
  same(jax.tree.map(lambda y: y[:, 0], mapped))
  values, (packed,) = run(records[:0], prepared)
  assert values.shape == (0, *expected[0].shape[1:])
  assert packed.shape == (0, *expected[1][0].shape[1:])
