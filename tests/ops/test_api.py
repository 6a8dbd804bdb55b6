"""What the ops refuse, and how an implementation is chosen. What they compute: tests/contract."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from hetjax import ops, xla_cpu
from hetjax.core import Palette
from hetjax.ops import dispatch
from hetjax.pack import ChannelLayout, pack_weights

LAYOUT = ChannelLayout((1, 2, 4, 4, 1), Palette())
WEIGHTS = pack_weights(np.zeros((3, 3, 5, 6), np.uint8), LAYOUT)
MATRIX = pack_weights(np.zeros((1, 1, 5, 6), np.uint8), LAYOUT)
RECORDS = np.zeros((1, 4, 4, LAYOUT.record_bytes), np.uint8)
ONES = np.ones(6, np.float32)


def conv(a=RECORDS, weights=WEIGHTS, scale=None, bias=None, **kwargs):
  kwargs = {"signed": False, "implementation": "reference"} | kwargs
  return ops.packed_conv(a, weights, scale, bias, **kwargs)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ({"a": RECORDS.astype(np.int8)}, "a must be an array of uint8, got int8"),
    ({"a": RECORDS[0]}, "a must have shape"),
    ({"a": RECORDS[..., :-1]}, "a must have shape"),
    ({"weights": WEIGHTS.codes}, "weights must be PackedWeights"),
    (
      {"weights": dataclasses.replace(WEIGHTS, codes=WEIGHTS.codes[:-1])},
      "codes of weights must have shape",
    ),
    (
      {"weights": dataclasses.replace(WEIGHTS, codes=WEIGHTS.codes.astype(np.int32))},
      "codes of weights must be an array of uint8",
    ),
    ({"scale": ONES}, "scale and bias must be given together"),
    ({"scale": ONES, "bias": ONES[:-1]}, "bias must have shape"),
    ({"scale": ONES.astype(np.float64), "bias": ONES}, "scale must be an array of float32"),
    ({"strides": 0}, "strides must be"),
    ({"strides": (1, 2, 3)}, "strides must be"),
    ({"kernel_dilation": -1}, "kernel_dilation must be"),
    ({"padding": "FULL"}, "padding must be"),
    ({"padding": ((1, 1),)}, None),
    ({"padding": ((1, -1), (0, 0))}, "padding must be"),
    ({"implementation": "cuda"}, "implementation must be"),
  ],
)
def test_conv_names_what_does_not_fit(arguments, message):
  if message is None:
    assert conv(**arguments).shape == (1, 4, 4, 6)
    return
  with pytest.raises(ValueError, match=message):
    conv(**arguments)


def test_matmul_and_quantize_pack_name_what_does_not_fit():
  with pytest.raises(ValueError, match="must be 1x1"):
    ops.packed_matmul(RECORDS[0, 0], WEIGHTS, signed=False)
  with pytest.raises(ValueError, match="a must have a last axis"):
    ops.packed_matmul(np.uint8(1), MATRIX, signed=False)
  one = np.float32(1)
  pack = lambda x, s=one: ops.quantize_pack(x, s, layout=LAYOUT, signed=False)
  with pytest.raises(ValueError, match="x must end in 5 channels"):
    pack(np.zeros((2, 4), np.float32))
  with pytest.raises(ValueError, match="x must be an array of float32"):
    pack(np.zeros((2, 5), np.int32))
  with pytest.raises(ValueError, match="inv_beta must have shape"):
    pack(np.zeros((2, 5), np.float32), np.ones(2, np.float32))


def test_weights_prepared_for_another_implementation_are_refused():
  if not xla_cpu.available()[0]:
    pytest.skip("needs the CPU engine")
  prepared = ops.prepare_weights(WEIGHTS, "xla_cpu")
  assert ops.prepare_weights(prepared, "xla_cpu") is prepared
  with pytest.raises(ValueError, match="prepared for implementation 'xla_cpu:"):
    conv(weights=prepared)
  with pytest.raises(ValueError, match="prepared for implementation 'xla_cpu:"):
    ops.prepare_weights(prepared, "reference")


def test_without_the_engine_the_reference_is_chosen_and_the_engine_says_why(monkeypatch):
  monkeypatch.setattr(xla_cpu, "available", lambda: (False, "the engine is not built"))
  assert dispatch.resolve(None) == "reference"
  reasons = ops.implementations()
  assert (reasons["reference"], reasons["xla_cpu"]) == ("", "the engine is not built")
  with pytest.raises(ops.ImplementationUnavailable, match="the engine is not built"):
    conv(implementation="xla_cpu")


def test_with_the_engine_it_is_chosen_on_cpu(monkeypatch):
  monkeypatch.setattr(xla_cpu, "available", lambda: (True, ""))
  assert dispatch.resolve(None) == "xla_cpu"
  monkeypatch.setattr(dispatch.jax, "default_backend", lambda: "gpu")
  assert dispatch.resolve(None) == "reference"
  with pytest.raises(ops.ImplementationUnavailable, match="'gpu', not 'cpu'"):
    dispatch.resolve("xla_cpu")


def test_empty_padding_and_same_agree_with_lax():
  x = jnp.zeros((1, 4, 4, LAYOUT.record_bytes), jnp.uint8)
  for strides in (1, 2, 3):
    shape = conv(a=x, strides=strides, padding="SAME").shape
    assert shape == (1, -(-4 // strides), -(-4 // strides), 6)
