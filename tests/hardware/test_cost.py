import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax.core import Assignment, LayerSpec, Palette
from hetjax.hardware import layer_cycles, load_target, network_cycles

CONV = LayerSpec("a/conv", (3, 3, 4, 6), 1, Palette(), False, None, 100)
GROUPED = LayerSpec("a/grouped", (3, 3, 2, 8), 2, Palette((2, 8)), False, None, 25)
HEAD = LayerSpec("head", (1, 1, 6, 10), 1, Palette((8,)), False, 8, 1, "dense")
SPECS = {s.name: s for s in (CONV, GROUPED, HEAD)}


def by_hand(bits, target):
  """The cost of integer bits, channel by channel."""
  total = {}
  for name, spec in SPECS.items():
    total[name] = target.cycles_per_op
    kh, kw, _, out = spec.kernel_shape
    weights = kh * kw * out // spec.groups
    for p in np.asarray(bits[name]).tolist():
      total[name] += weights * spec.positions * target.level(p).cycles_per_mac
      total[name] += weights * p / 8 * target.cycles_per_byte
  return total


@pytest.mark.parametrize("name", ["cpu_avx512_generic", "bits_only"])
def test_assignments_cost_what_the_target_says(name):
  target = load_target(name)
  assignment = Assignment.create(
    SPECS, {"a/conv": np.array([1, 2, 4, 1]), "a/grouped": np.array([8, 2, 2, 8])}
  )
  expected = by_hand(assignment.bits, target)
  cycles = layer_cycles(assignment.bits, SPECS, target)
  assert cycles.keys() == SPECS.keys()
  for layer, value in cycles.items():
    np.testing.assert_allclose(value, expected[layer], rtol=1e-6)
  total = jax.jit(lambda bits: network_cycles(bits, SPECS, target))(assignment.bits)
  np.testing.assert_allclose(total, sum(expected.values()), rtol=1e-6)


def test_numbers_worked_out_on_paper():
  target = load_target("bits_only")
  bits = {"a/conv": [1, 1, 2, 4], "a/grouped": [2, 2, 2, 8], "head": [8] * 6}
  cycles = layer_cycles({n: jnp.asarray(b) for n, b in bits.items()}, SPECS, target)
  assert float(cycles["a/conv"]) == 8 * 9 * 6 * 100
  assert float(cycles["a/grouped"]) == 14 * 9 * 4 * 25
  assert float(cycles["head"]) == 6 * 8 * 10


def cost_of_first_channel(value, spec=CONV, target="cpu_avx512_generic"):
  bits = jnp.full((spec.in_channels,), 2.0).at[0].set(value)
  return network_cycles({spec.name: bits}, {spec.name: spec}, load_target(target))


def test_linear_between_levels_and_beyond_the_last():
  at = {b: float(cost_of_first_channel(b)) for b in (1, 1.5, 2, 2.5, 3, 4, 5, 6)}
  assert at[1.5] == pytest.approx((at[1] + at[2]) / 2, rel=1e-6)
  assert at[2.5] == pytest.approx(0.75 * at[2] + 0.25 * at[4], rel=1e-6)
  assert at[6] - at[4] == pytest.approx(at[4] - at[2], rel=1e-4)


def test_gradient_pulls_down_everywhere_above_the_lowest_level():
  gradient = jax.grad(cost_of_first_channel)
  for bits in (1.01, 1.5, 2.0, 3.0, 4.0, 4.7, 7.5):
    assert float(gradient(bits)) > 0, bits
  assert float(gradient(3.0)) == pytest.approx(
    float(cost_of_first_channel(4.0) - cost_of_first_channel(2.0)) / 2, rel=1e-4
  )
  # Under the lowest level of a palette nothing is left to gain.
  assert float(jax.grad(lambda b: cost_of_first_channel(b, GROUPED))(1.5)) == 0.0


def test_pinned_layers_have_a_constant_cost():
  target = load_target("cpu_avx512_generic")
  gradient = jax.grad(lambda b: network_cycles({"head": b}, {"head": HEAD}, target))
  assert not np.any(gradient(jnp.full((6,), 8.0)))


def test_errors_name_the_layer():
  target = load_target("bits_only")
  with pytest.raises(ValueError, match="entry for layer 'a/conv'"):
    layer_cycles({}, SPECS, target)
  with pytest.raises(ValueError, match=r"layer 'a/conv' must have shape \(4,\), got \(3,\)"):
    layer_cycles({"a/conv": jnp.ones(3)}, {"a/conv": CONV}, target)
  assert float(network_cycles({}, {}, target)) == 0.0
