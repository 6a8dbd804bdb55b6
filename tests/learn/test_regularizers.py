"""Regularizers: values, zeros, gradients, configuration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax.core import LayerSpec, Palette
from hetjax.hardware import load_target, network_cycles, target_names
from hetjax.learn import regularizers
from hetjax.learn.regularizers import REGULARIZERS, RegularizerConfig, soft_counts, total

_FREE = Palette((1, 2, 4))


def _spec(name, channels, outputs, *, pinned=None, positions=1, palette=_FREE):
  palette = Palette((pinned,)) if pinned else palette
  return LayerSpec(name, (1, 1, channels, outputs), 1, palette, False, pinned, positions)


SPECS = {
  s.name: s for s in (_spec("p", 2, 3, pinned=8), _spec("a", 4, 5, positions=7), _spec("b", 3, 2))
}
BITS = {
  "p": jnp.full(2, 8.0), "a": jnp.array([1.2, 1.9, 3.1, 4.6]), "b": jnp.array([1.0, 2.0, 4.0]),
}  # fmt: skip


def test_mean_bits_by_hand():
  params = (2 * 3 * 8 + 5 * 10.8 + 2 * 7) / (6 + 20 + 6)
  macs = (2 * 3 * 8 + 35 * 10.8 + 2 * 7) / (6 + 140 + 6)
  assert float(REGULARIZERS["mean_bits_params"](BITS, SPECS)) == pytest.approx(params, rel=1e-6)
  assert float(REGULARIZERS["mean_bits_macs"](BITS, SPECS)) == pytest.approx(macs, rel=1e-6)


def test_target_cycles_is_a_fraction_of_the_cost_at_the_top():
  target = load_target(target_names()[0])
  specs = {n: s for n, s in SPECS.items() if n != "p"}
  top = {n: jnp.full(s.in_channels, 4.0) for n, s in specs.items()}
  low = {n: jnp.full(s.in_channels, 1.0) for n, s in specs.items()}
  cost = REGULARIZERS["target_cycles"]
  assert float(cost(top, specs, target=target)) == 1.0
  expected = float(network_cycles(low, specs, target) / network_cycles(top, specs, target))
  assert float(cost(low, specs, target=target)) == pytest.approx(expected)
  assert 0 < expected < 1


def test_soft_counts_share_a_channel_between_its_levels():
  counts = soft_counts(jnp.array([0.5, 1.25, 3.0, 9.0]), (1, 2, 4))
  np.testing.assert_allclose(counts, [1.75, 0.75, 1.5], rtol=1e-6)
  np.testing.assert_allclose(soft_counts(jnp.array([0.5, 3.0]), (2,)), [2.0])


def test_granule_is_zero_exactly_for_allowed_counts():
  specs = {"x": _spec("x", 10, 4)}
  granules = {1: 4, 2: 2, 4: 4}

  def value(ones, twos, fours):
    bits = jnp.array([1.0] * ones + [2.0] * twos + [4.0] * fours)
    return float(REGULARIZERS["granule"]({"x": bits}, specs, granules=granules))

  for ones in range(11):
    for twos in range(11 - ones):
      fours = 10 - ones - twos
      ragged = (ones % 4 != 0) + (twos % 2 != 0) + (fours % 4 != 0)
      if ragged <= 1:
        assert value(ones, twos, fours) == pytest.approx(0, abs=1e-6)
      else:
        assert value(ones, twos, fours) > 0.1


def test_granule_by_its_formula_and_weighted_by_parameters():
  specs = {"p": SPECS["p"], "x": _spec("x", 2, 9), "y": _spec("y", 3, 2)}
  bits = {"p": BITS["p"], "x": jnp.array([1.0, 3.0]), "y": jnp.full(3, 2.0)}
  # x holds 1, 0.5, 0.5 channels; y holds 3 at level 2, the one remainder it may have.
  distances = np.sin(np.pi * np.array([1, 0.5, 0.5]) / np.array([4, 2, 4])) ** 2
  expected = 18 * (distances.sum() - distances.max()) / 24
  value = REGULARIZERS["granule"](bits, specs, granules={1: 4, 2: 2, 4: 4})
  assert float(value) == pytest.approx(expected, rel=1e-5)
  # A granule of one constrains nothing, whatever the soft counts.
  assert float(REGULARIZERS["granule"](bits, specs, granules={1: 1})) == 0.0


def test_granule_descent_reaches_allowed_counts():
  specs = {"x": _spec("x", 8, 1)}
  loss = lambda b: REGULARIZERS["granule"]({"x": b}, specs, granules={1: 4, 2: 4, 4: 4})
  bits = jnp.linspace(1.1, 3.7, 8)
  step = jax.jit(lambda b: b - 0.05 * jax.grad(loss)(b))
  start = float(loss(bits))
  for _ in range(400):
    bits = step(bits)
  assert start > 0.1
  assert float(loss(bits)) < 1e-3


def test_attraction_is_zero_on_levels_only_and_pulls_to_the_nearest():
  value = REGULARIZERS["palette_attraction"]
  specs = {"b": SPECS["b"], "p": SPECS["p"]}
  on = {"b": jnp.array([1.0, 2.0, 4.0]), "p": BITS["p"]}
  assert float(value(on, specs)) == 0.0
  off = {"b": jnp.array([1.2, 2.9, 4.5]), "p": BITS["p"]}
  assert float(value(off, specs)) == pytest.approx((0.04 + 0.81 + 0.25) / 3, rel=1e-5)
  gradient = jax.grad(lambda b: value({"b": b, "p": BITS["p"]}, specs))
  np.testing.assert_allclose(gradient(off["b"]), np.array([0.4, 1.8, 1.0]) / 3, rtol=1e-5)
  np.testing.assert_array_equal(gradient(on["b"]), 0)


def test_attraction_weights_layers():
  bits = {"a": jnp.full(4, 1.5), "b": jnp.full(3, 1.0)}
  specs = {n: SPECS[n] for n in bits}
  for by, share in (("params", 20 / 26), ("macs", 140 / 146), ("channels", 4 / 7)):
    value = REGULARIZERS["palette_attraction"](bits, specs, by=by)
    assert float(value) == pytest.approx(0.25 * share, rel=1e-5)


def test_networks_of_pinned_layers_are_not_penalised():
  specs, bits = {"p": SPECS["p"]}, {"p": BITS["p"]}
  assert float(REGULARIZERS["granule"](bits, specs, granules={8: 64})) == 0.0
  assert float(REGULARIZERS["palette_attraction"](bits, specs)) == 0.0


def test_total_sums_weighted_values_under_jit():
  configs = [
    RegularizerConfig("mean_bits_params", 0.5),
    RegularizerConfig("palette_attraction", 2.0, {"by": "macs"}, label="by_macs"),
    RegularizerConfig("palette_attraction", 3.0),
  ]
  penalty, values = jax.jit(lambda b: total(configs, b, SPECS))(BITS)
  assert list(values) == ["by_macs", "mean_bits_params", "palette_attraction"]  # jit sorts keys
  expected = 0.5 * values["mean_bits_params"] + 2 * values["by_macs"]
  assert float(penalty) == pytest.approx(float(expected + 3 * values["palette_attraction"]))
  gradient = jax.grad(lambda b: total(configs, b, SPECS)[0])(BITS)
  assert all(np.isfinite(g).all() for g in gradient.values())
  assert float(total([], BITS, SPECS)[0]) == 0.0


def test_a_new_regularizer_is_a_function_and_a_name():
  name = "test_only_first_channel"
  try:

    @regularizers.register(name)
    def first(bits, specs, *, factor):
      del specs
      return factor * bits["a"][0]

    penalty, values = total([RegularizerConfig(name, 2.0, {"factor": 10.0})], BITS, SPECS)
    assert float(penalty) == pytest.approx(24.0)
    assert float(values[name]) == pytest.approx(12.0)
    with pytest.raises(ValueError, match="registered already"):
      regularizers.register(name)(first)
  finally:
    regularizers._registry.pop(name, None)
  with pytest.raises(TypeError):
    REGULARIZERS["x"] = first


def test_bad_configurations_are_refused():
  with pytest.raises(ValueError, match="must be among .*got 'nope'"):
    RegularizerConfig("nope", 1.0)
  with pytest.raises(ValueError, match="must be finite"):
    RegularizerConfig("granule", float("nan"))
  with pytest.raises(ValueError, match="occurs twice"):
    total([RegularizerConfig("mean_bits_params", 1.0)] * 2, BITS, SPECS)
  config = RegularizerConfig("granule", 1.0, {"granules": {1: 2}})
  assert hash(config) == hash(RegularizerConfig("granule", 1.0, {"granules": {1: 2}}))


def test_energy_grows_with_the_square_of_bits_where_products_rule_and_linearly_for_memory():
  specs = {"a": LayerSpec("a", (3, 3, 2, 5), 1, Palette(), False, None, 7)}
  energy = REGULARIZERS["energy"]
  at = lambda p, **costs: float(energy({"a": jnp.full(2, p)}, specs, **costs))
  products = {"multiply_pj": 1.0, "add_pj": 0.0, "weight_pj": 0.0}
  memory = {"multiply_pj": 0.0, "add_pj": 0.0, "weight_pj": 1.0}
  assert at(4.0) == pytest.approx(1.0)
  assert at(1.0, **products) == pytest.approx(1 / 16) and at(1.0, **memory) == pytest.approx(1 / 4)
  # Seven positions: 90 weights are read once and used seven times.
  by_hand = lambda p: 90 * 7 * (0.2 * (p / 8) ** 2 + 0.03 * p / 8) + 90 * 160 * p / 8
  assert at(2.0) == pytest.approx(by_hand(2) / by_hand(4))
