import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax.core import Assignment, LayerSpec, Palette
from hetjax.hardware import Level, Target, layer_cycles, load_target, network_cycles

CONV = LayerSpec("a/conv", (3, 3, 4, 6), 1, Palette(), False, None, 100)
GROUPED = LayerSpec("a/grouped", (3, 3, 2, 8), 2, Palette((2, 8)), False, None, 25)
DEPTHWISE = LayerSpec("a/depthwise", (3, 3, 1, 10), 5, Palette((1, 8)), False, None, 9)
HEAD = LayerSpec("head", (1, 1, 6, 10), 1, Palette((8,)), False, 8, 1, "dense")
SPECS = {s.name: s for s in (CONV, GROUPED, DEPTHWISE, HEAD)}
LEVELS = tuple(Level(p, 1, p / 64) for p in (1, 2, 4, 8))
ALL_COSTS = Target("all", "costs", "made up", 1.0, LEVELS, 4, 0.5, 3.0, 20.0, 1000.0)


def by_hand(bits, target):
  """The cost of integer bits, channel by channel."""
  total = {}
  for name, spec in SPECS.items():
    kh, kw, per_group, out = spec.kernel_shape
    each = out // spec.groups
    run = each if per_group == 1 else -(-each // target.output_granule) * target.output_granule
    total[name] = target.cycles_per_op
    total[name] += target.cycles_per_output * run * spec.groups * spec.positions
    total[name] += target.cycles_per_position * len(spec.palette.levels) * spec.positions
    for p in np.asarray(bits[name]).tolist():
      total[name] += kh * kw * run * spec.positions * target.level(p).cycles_per_mac
      total[name] += kh * kw * each * p / 8 * target.cycles_per_byte
  return total


@pytest.mark.parametrize(
  "target", [load_target("cpu_avx512_generic"), load_target("bits_only"), ALL_COSTS]
)
def test_assignments_cost_what_the_target_says(target):
  assignment = Assignment.create(
    SPECS,
    {
      "a/conv": np.array([1, 2, 4, 1]),
      "a/grouped": np.array([8, 2, 2, 8]),
      "a/depthwise": np.array([1, 8, 1, 1, 8]),
    },
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
  bits = {n: jnp.asarray(b) for n, b in (bits | {"a/depthwise": [1, 1, 8, 8, 8]}).items()}
  cycles = layer_cycles(bits, SPECS, target)
  assert float(cycles["a/conv"]) == 8 * 9 * 6 * 100
  assert float(cycles["a/grouped"]) == 14 * 9 * 4 * 25
  assert float(cycles["a/depthwise"]) == 26 * 9 * 2 * 9
  assert float(cycles["head"]) == 6 * 8 * 10
  # Six outputs run as eight; ten are ten where they are depthwise, and twelve in the head.
  cycles = layer_cycles(bits, SPECS, ALL_COSTS)
  constant = 3 * 8 * 100 + 20 * 3 * 100 + 1000
  assert float(cycles["a/conv"]) == 8 / 64 * 9 * 8 * 100 + 0.5 * 9 * 6 + constant
  constant = 3 * 10 * 9 + 20 * 2 * 9 + 1000
  assert float(cycles["a/depthwise"]) == 26 / 64 * 9 * 2 * 9 + 0.5 * 26 / 8 * 9 * 2 + constant
  assert float(cycles["head"]) == 48 / 64 * 12 + 0.5 * 48 / 8 * 10 + 3 * 12 + 20 + 1000


def test_what_no_level_changes_is_in_the_cost_and_not_in_the_gradient():
  free = dataclasses.replace(
    ALL_COSTS, cycles_per_output=0.0, cycles_per_position=0.0, cycles_per_op=0.0
  )
  bits = {"a/conv": jnp.array([1.0, 1.5, 3.0, 4.0])}
  cost = lambda b, target: network_cycles(b, {"a/conv": CONV}, target)
  assert float(cost(bits, ALL_COSTS) - cost(bits, free)) == 3 * 8 * 100 + 20 * 3 * 100 + 1000
  gradients = [jax.grad(cost)(bits, target)["a/conv"] for target in (ALL_COSTS, free)]
  np.testing.assert_array_equal(*gradients)


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
