"""The checked-in artifacts keep loading and say what their formulas say."""

import dataclasses

import numpy as np
import pytest
import safetensors.numpy

from hetjax.core import Assignment
from hetjax.pack import (
  ArtifactError,
  from_bytes,
  narrow,
  read_artifact,
  to_bytes,
  unpack_weights,
  writer,
)

ONE = np.ones(1, np.float32)


def formula(kernel_shape, bits, groups):
  """Codes by scalar loops over the formula of make_golden.py."""
  kh, kw, per_group, outputs = kernel_shape
  out = np.zeros(kernel_shape, int)
  for i, at in enumerate(np.ndindex(kh, kw, per_group, outputs)):
    group = at[3] // (outputs // groups)
    out[at] = (5 * i + i // 7 + 1) % 2 ** bits[group * per_group + at[2]]
  return out


def test_loads_as_its_formulas_say(golden):
  artifact = read_artifact(golden.PATH)
  assert artifact.model_name == "golden"
  assert artifact.hetjax_version == "0.1.0"
  assert artifact.model_config == {
    "width": 4,
    "name": "three layers",
    "slope": 0.5,
    "stages": [1, 2],
  }
  expected = {
    "stem": ((3, 3, 3, 4), 1, (8, 8, 8), (8,), 8, True, 16, "conv", 0.5),
    "block/conv": ((2, 2, 3, 4), 2, (4, 1, 2, 1, 1, 2), (1, 2, 4), None, False, 9, "conv", 0.25),
    "head": ((1, 1, 5, 3), 1, (2, 4, 1, 1, 4), (1, 2, 4), None, False, 1, "dense", 2.0),
  }
  assert list(artifact.layers) == list(expected)
  for name, (
    kernel,
    groups,
    bits,
    levels,
    pinned,
    signed,
    positions,
    kind,
    beta,
  ) in expected.items():
    layer = artifact.layers[name]
    spec = layer.spec
    assert (spec.name, spec.kernel_shape, spec.groups) == (name, kernel, groups)
    assert (spec.palette.levels, spec.pinned_bits, spec.signed) == (levels, pinned, signed)
    assert (spec.positions, spec.kind) == (positions, kind)
    assert layer.bits.tolist() == list(bits)
    assert layer.bits.dtype == np.int8
    np.testing.assert_array_equal(unpack_weights(layer.weights), formula(kernel, bits, groups))
    assert layer.alpha.tolist() == [(n + 1) / 16 for n in range(kernel[3])]
    assert layer.beta.shape == ()
    assert layer.beta == beta
  assert artifact.layers["stem"].bias is None
  assert artifact.layers["head"].bias.tolist() == [-1.0, 0.0, 1.0]
  assert {path: value.tolist() for path, value in artifact.tensors.items()} == {
    "params/stem_norm/scale": [1.0, 2.0, 3.0, 4.0],
    "params/stem_norm/bias": [-2.0, -1.0, 0.0, 1.0],
    "batch_stats/stem_norm/mean": [0.0, 0.25, 0.5, 0.75],
    "batch_stats/stem_norm/var": [0.5, 1.0, 1.5, 2.0],
    "params/gain": 3.0,
  }
  assert artifact.assignment == Assignment({n: np.array(e[2]) for n, e in expected.items()})


def test_dense_layer_has_the_bytes_derived_by_hand(golden):
  # Channel c of output n has i = 3 c + n and the value v = 5 i + i div 7 + 1.
  # 4 bits, channels 1 and 4: v mod 16 = (0, 14), (5, 3), (10, 9): the first in the low half.
  # 2 bits, channel 0: v mod 4 = 1, 2, 3. 1 bit, channels 2 and 3: (1, 1), (1, 0), (0, 1).
  codes = read_artifact(golden.PATH).layers["head"].weights.codes
  assert codes.tolist() == [0xE0, 0x35, 0x9A, 1, 2, 3, 0b11, 0b01, 0b10]
  tensors = safetensors.numpy.load_file(golden.PATH)
  assert tensors["codes"][-9:].tolist() == codes.tolist()
  # Levels of block/conv as indices into (1, 2, 4): 2, 0, 1, 0 | 0, 1; of head: 1, 2, 0, 0 | 2.
  assert tensors["bits"].tolist() == [0b00010010, 0b0100, 0b00001001, 0b10]


def test_writer_makes_the_same_bytes(golden):
  assert to_bytes(golden.network()) == golden.PATH.read_bytes()
  assert to_bytes(read_artifact(golden.PATH)) == golden.PATH.read_bytes()


def test_version_2_holds_the_same_numbers_in_half_precision(golden):
  first, second = read_artifact(golden.PATH), read_artifact(golden.HALF_PATH)
  assert b'\\"version\\":2' in golden.HALF_PATH.read_bytes()
  for name, layer in first.layers.items():
    half = second.layers[name]
    assert half.spec == layer.spec
    np.testing.assert_array_equal(half.weights.codes, layer.weights.codes)
    for leaf in ("alpha", "beta", "bias"):
      a, b = getattr(layer, leaf), getattr(half, leaf)
      assert (a is None) == (b is None)
      assert a is None or (b.dtype == np.float16 and a.tolist() == b.tolist())
  assert {k: v.tolist() for k, v in first.tensors.items()} == {
    k: v.tolist() for k, v in second.tensors.items()
  }
  assert all(v.dtype == np.float16 for v in second.tensors.values())
  assert to_bytes(second) == to_bytes(narrow(golden.network())) == golden.HALF_PATH.read_bytes()


def test_only_what_loses_nothing_becomes_half_precision(golden):
  network = golden.network()
  layer = network.layers["head"]
  odd = dataclasses.replace(layer, alpha=np.full_like(layer.alpha, 0.1))
  tensors = {"params/a": np.float32([1e5]), "params/b": np.float32([1e-9]), "params/c": ONE}
  changed = dataclasses.replace(network, layers={"head": odd}, tensors=tensors)
  narrowed = narrow(changed)
  assert {k: v.dtype for k, v in narrowed.tensors.items()} == {
    "params/a": np.float32, "params/b": np.float32, "params/c": np.float16
  }  # fmt: skip
  assert narrowed.layers["head"] is odd
  back = from_bytes(to_bytes(narrowed))
  assert back.tensors["params/c"].tolist() == [1.0]


def test_constants_beyond_what_a_reader_allows_are_stored(golden, monkeypatch):
  monkeypatch.setattr(writer, "MAX_CONSTANTS", 10)
  tensors = {f"params/{name}": np.full(6, 2, np.float16) for name in "ab"}
  artifact = dataclasses.replace(narrow(golden.network()), tensors=tensors)
  data = to_bytes(artifact)
  assert b"[[6],2.0]" in data and b"[[6]]" in data
  assert all(v.tolist() == [2.0] * 6 for v in from_bytes(data).tensors.values())


def test_both_zeros_come_back(golden):
  zeros = np.float16([0.0, -0.0])
  artifact = dataclasses.replace(narrow(golden.network()), tensors={"params/z": zeros})
  assert np.signbit(from_bytes(to_bytes(artifact)).tensors["params/z"]).tolist() == [False, True]


def test_a_layer_of_mixed_precision_is_refused(golden):
  network = golden.network()
  mixed = dataclasses.replace(network.layers["head"], beta=np.float16(2).reshape(()))
  with pytest.raises(ArtifactError, match="must all be float32 or all float16"):
    to_bytes(dataclasses.replace(network, layers={"head": mixed}))
