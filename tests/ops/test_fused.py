"""What fused ops refuse, and what passes can read of their equations. Numbers: tests/contract."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax import ops
from hetjax.core import Palette
from hetjax.ops import primitives
from hetjax.pack import ChannelLayout, pack_weights

LAYOUT = ChannelLayout((1, 2, 4, 4, 1), Palette())
WEIGHTS = pack_weights(np.zeros((3, 3, 5, 6), np.uint8), LAYOUT)
MATRIX = pack_weights(np.zeros((1, 1, 5, 6), np.uint8), LAYOUT)
RECORDS = np.zeros((1, 4, 4, LAYOUT.record_bytes), np.uint8)
VALUES = np.zeros((1, 4, 4, 5), np.float32)
ONES = np.ones(6, np.float32)
READER = ops.Requantize(np.float32(1), ChannelLayout((4,) * 6, Palette()), False)


def conv(x=RECORDS, weights=WEIGHTS, scale=ONES, bias=ONES, **kwargs):
  kwargs = {"signed": False, "implementation": "reference"} | kwargs
  return ops.fused_conv(x, weights, scale, bias, **kwargs)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"x": VALUES}, "x must be an array of uint8, got float32"),
    ({"x": RECORDS, "inv_beta": np.float32(1)}, "x must be an array of float32, got uint8"),
    ({"x": VALUES[..., :-1], "inv_beta": np.float32(1)}, "x must have a last axis of 5"),
    ({"x": VALUES, "inv_beta": np.ones(1, np.float32)}, "inv_beta must have shape"),
    ({"x": RECORDS[0]}, r"x must be \[batch, height, width, channels\]"),
    ({"weights": None}, "weights must be PackedWeights"),
    ({"scale": None}, "scale and bias must be given"),
    ({"bias": None}, "scale and bias must be given together"),
    ({"bias": ONES[:-1]}, "bias must have shape"),
    ({"strides": 0}, "strides must be"),
    ({"padding": "FULL"}, "padding must be"),
    ({"activation": "tanh"}, r"activation must be one of .*got 'tanh'"),
    ({"residual": np.zeros((1, 4, 4, 5), np.float32)}, r"residual must have shape \(1, 4, 4, 6\)"),
    ({"residual": np.zeros((1, 1, 1, 6), np.float32)}, "residual must have shape"),
    ({"residual": np.zeros((1, 4, 4, 6), np.int32)}, "residual must be an array of float32"),
    ({"requantize": (LAYOUT,)}, r"requantize\[0\] must be Requantize, got ChannelLayout"),
    (
      {"requantize": (READER, ops.Requantize(np.float32(1), LAYOUT, False))},
      r"layout of requantize\[1\] must have 6 channels, got 5",
    ),
    (
      {"requantize": (ops.Requantize(np.float32([1]), READER.layout, False),)},
      r"inv_beta of requantize\[0\] must have shape",
    ),
    ({"keep_values": False}, "requantize must name a consumer"),
    ({"implementation": "cuda"}, "implementation must be"),
  ],
)
def test_conv_names_what_does_not_fit(arguments, message):
  with pytest.raises(ValueError, match=message):
    conv(**arguments)


def test_matmul_names_what_does_not_fit():
  run = lambda x, w=MATRIX, **kw: ops.fused_matmul(x, w, ONES, ONES, signed=False, **kw)
  with pytest.raises(ValueError, match="must be 1x1"):
    run(RECORDS, WEIGHTS)
  with pytest.raises(ValueError, match="x must have a last axis"):
    run(np.uint8(1))
  with pytest.raises(ValueError, match=r"residual must have shape \(1, 4, 4, 6\)"):
    run(RECORDS, residual=np.zeros((1, 16, 6), np.float32))


def test_an_equation_gives_back_what_the_caller_wrote():
  def function(x, weights, residual, reader):
    return conv(x, weights, residual=residual, activation="relu", requantize=(reader,), strides=2)

  residual = np.zeros((1, 2, 2, 6), np.float32)
  jaxpr = jax.make_jaxpr(function)(RECORDS, WEIGHTS, residual, READER)
  (equation,) = jaxpr.eqns
  assert equation.primitive is primitives.FUSED_LAYER.primitive
  args, static = primitives.FUSED_LAYER.arguments(equation.invars, equation.params)
  x, weights, _, _, inv_beta, found, (reader,) = args
  assert [x, weights.codes, found, reader.inv_beta] == list(jaxpr.jaxpr.invars)
  assert inv_beta is None
  assert weights.layout == LAYOUT and weights.kernel_shape == (3, 3, 5, 6)
  assert reader.layout == READER.layout and reader.signed is False
  assert static["activation"] == "relu" and static["keep_values"] is True
  assert static["window"] == primitives.Window((2, 2), ((0, 1), (0, 1)), (1, 1))
  operands, parameters = primitives.FUSED_LAYER.equation(args, static)
  assert operands == list(equation.invars) and parameters == equation.params


def test_single_ops_are_single_equations_too():
  def function(x, matrix):
    a = ops.quantize_pack(x, np.float32(1), layout=LAYOUT, signed=True)
    y = ops.packed_matmul(a, matrix, ONES, ONES, signed=True)
    return y, ops.packed_matmul(a, matrix, signed=True)

  jaxpr = jax.make_jaxpr(function)(VALUES, MATRIX)
  names = [e.primitive.name for e in jaxpr.eqns]
  assert names == ["quantize_pack", "packed_layer", "packed_layer"]
  assert [str(v.aval) for v in jaxpr.jaxpr.outvars] == ["float32[1,4,4,6]", "int32[1,4,4,6]"]


def test_gradients_are_refused():
  with pytest.raises(NotImplementedError, match="quantize_pack"):
    jax.grad(
      lambda x: jnp.sum(ops.quantize_pack(x, np.float32(1), layout=LAYOUT, signed=True) * 1.0)
    )(VALUES)
