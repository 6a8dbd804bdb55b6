import jax.numpy as jnp
import numpy as np
import pytest

from hetjax.core import Assignment, LayerSpec, Palette, precision

SPECS = {
  "a": LayerSpec("a", (3, 3, 4, 8), 1, Palette(), False, None, positions=16),
  "b/c": LayerSpec("b/c", (1, 1, 2, 6), 2, Palette(), False, None, positions=4),
  "head": LayerSpec("head", (1, 1, 6, 10), 1, Palette((8,)), False, 8, positions=1, kind="dense"),
}


def test_layer_spec_counts():
  a, b = SPECS["a"], SPECS["b/c"]
  assert (a.in_channels, a.taps, a.weights, a.weights_per_channel) == (4, 9, 288, 72)
  assert (b.in_channels, b.weights, b.weights_per_channel) == (4, 12, 3)
  assert (a.macs, b.macs_per_channel) == (288 * 16, 12)


def test_bits_of_s_is_one_minus_log2_sigma_and_invertible():
  s = jnp.float32([-40.0, -2.5, 0.0, 3.0])
  bits = precision.bits_of_s(s)
  np.testing.assert_allclose(bits[1:], 1 - np.log2(1 / (1 + np.exp(-s[1:]))), rtol=1e-6)
  assert np.isfinite(bits).all()
  np.testing.assert_allclose(precision.s_of_bits(bits[1:]), s[1:], rtol=1e-3, atol=1e-5)


def test_means_are_weighted_and_count_pinned_layers():
  bits = {"a": np.full(4, 2.0), "b/c": np.full(4, 4.0), "head": np.full(6, 8.0)}
  total = 2 * 288 + 4 * 12 + 8 * 60
  assert float(precision.total_bits(bits, SPECS)) == total
  assert float(precision.mean_bits(bits, SPECS)) == pytest.approx(total / 360)
  macs = 2 * 288 * 16 + 4 * 12 * 4 + 8 * 60
  assert float(precision.mean_bits(bits, SPECS, "macs")) == pytest.approx(macs / (4608 + 48 + 60))
  assert float(precision.mean_bits(bits, SPECS, "channels")) == pytest.approx((8 + 16 + 48) / 14)
  with pytest.raises(ValueError, match="by must be"):
    precision.mean_bits(bits, SPECS, "weights")


def test_learned_bits_fill_in_pinned_layers():
  tree = {"a": {"s": jnp.zeros(4)}, "b": {"c": {"s": jnp.zeros(4)}}}
  bits = precision.learned_bits(tree, SPECS)
  np.testing.assert_allclose(bits["a"], 2.0)
  np.testing.assert_array_equal(bits["head"], 8.0)
  with pytest.raises(KeyError, match="b/c"):
    precision.learned_bits({"a": {"s": jnp.zeros(4)}}, SPECS)


def test_paths_are_read_and_set_without_touching_the_original():
  tree = {"b": {"c": {"s": 1}}}
  new = precision.set_path(tree, "b/d", 2)
  assert precision.get_path(new, "b/d") == 2
  assert precision.get_path(new, "b/c/s") == 1
  assert tree == {"b": {"c": {"s": 1}}}


def test_assignment_checks_and_fills_in():
  free = {"a": [1, 2, 4, 1], "b/c": [1, 1, 2, 2]}
  assignment = Assignment.create(SPECS, free)
  assert assignment.counts("a") == {4: 1, 2: 1, 1: 2}
  assert assignment.counts("head") == {8: 6}
  assert assignment == Assignment.create(SPECS, free)
  assert assignment != Assignment.uniform(SPECS, 2)
  for bad, message in (
    ({"a": free["a"]}, "lacks layer 'b/c'"),
    (free | {"x": [1]}, "does not have"),
    (free | {"a": [1, 2]}, "shape"),
    (free | {"a": [1, 2, 8, 1]}, "levels"),
  ):
    with pytest.raises(ValueError, match=message):
      Assignment.create(SPECS, bad)
