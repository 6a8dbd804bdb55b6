"""The checked-in artifact of version 1 keeps loading and says what its formulas say."""

import numpy as np
import safetensors.numpy

from hetjax.core import Assignment
from hetjax.pack import read_artifact, to_bytes, unpack_weights


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
