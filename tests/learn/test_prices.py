"""Prices against what the packer and the cost model say, and assignments held to them."""

import dataclasses
import itertools

import numpy as np
import pytest

from hetjax.core import Assignment, LayerSpec, Palette
from hetjax.core.precision import mean_bits
from hetjax.hardware import Level, Target, network_cycles
from hetjax.learn.assign import assign
from hetjax.learn.baselines import assign_random
from hetjax.learn.budget import Budget
from hetjax.learn.prices import file_bytes, prices_of
from hetjax.pack.layout import ChannelLayout
from hetjax.pack.weights import weight_bytes

# Four bits cost five times as much as one: no price is a straight line over the levels.
MACHINE = Target(
  "test", "test", "test", 2.0,
  (Level(1, 1, 0.25), Level(2, 1, 0.5), Level(4, 1, 1.25), Level(8, 1, 2.0)),
  8, 0.01, 0.5, 3.0, 40.0,
)  # fmt: skip


def _layer(name, channels, outputs=8, *, pinned=None, groups=1, k=3, positions=16):
  palette = Palette() if pinned is None else Palette((pinned,))
  shape = (k, k, channels // groups, outputs)
  return LayerSpec(name, shape, groups, palette, False, pinned, positions)


SPECS = {
  s.name: s
  for s in (
    _layer("first", 3, 5, pinned=8, positions=100),
    _layer("a", 5, 7),
    _layer("d", 6, 6, groups=6, positions=30),
    _layer("b", 4, 9, k=1),
  )
}
SIZES = Budget("file_bytes", 300, overhead_bytes=77)
LATENCY = Budget("latency_us", 5, machine=MACHINE)
BUDGETS = [SIZES, LATENCY, Budget("mean_bits_params", 2.5), Budget("mean_bits_macs", 2.5)]


def _random(seed):
  rng = np.random.default_rng(seed)
  free = {n: s for n, s in SPECS.items() if s.pinned_bits is None}
  return Assignment.create(
    SPECS, {n: rng.choice(s.palette.levels, s.in_channels) for n, s in free.items()}
  )


def _spent(budget, assignment, specs):
  """The budgeted quantity by other means than prices."""
  bits = assignment.bits
  if budget.quantity == "file_bytes":
    layouts = {n: ChannelLayout(tuple(bits[n]), s.palette, s.groups) for n, s in specs.items()}
    return 77 + sum(weight_bytes(layouts[n], s.kernel_shape) for n, s in specs.items())
  if budget.quantity == "latency_us":
    return float(network_cycles(bits, specs, MACHINE)) / 2000
  return float(mean_bits(bits, specs, budget.quantity.removeprefix("mean_bits_")))


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda b: b.quantity)
@pytest.mark.parametrize("seed", range(5))
def test_prices_are_what_the_network_costs(budget, seed):
  prices, assignment = prices_of(budget, SPECS), _random(seed)
  spent = prices.quantity(prices.total(assignment))
  expected = _spent(budget, assignment, SPECS)
  assert spent == (expected if budget.quantity == "file_bytes" else pytest.approx(expected))


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda b: b.quantity)
def test_a_price_is_a_machine_s_own_whatever_the_path_between_levels(budget):
  """Counts in, price out: the same for every order of channels."""
  prices = prices_of(budget, SPECS)
  for name, spec in prices.specs.items():
    many = np.array([[spec.in_channels - 2, 1, 1], [0, 0, spec.in_channels]])
    together = prices.layers[name](many)
    assert [int(prices.layers[name](row)) for row in many] == together.tolist()


def test_other_grouped_layers_are_priced_at_the_most_they_can_take():
  spec = _layer("g", 8, 6, groups=2)
  for levels in itertools.islice(itertools.product((1, 2, 4), repeat=8), 0, None, 97):
    counts = [levels.count(p) for p in (4, 2, 1)]
    packed = weight_bytes(ChannelLayout(levels, spec.palette, 2), spec.kernel_shape)
    assert packed <= int(file_bytes(counts, spec)) <= packed + 3 * 2 * 3
  for level in (1, 2, 4):
    packed = weight_bytes(ChannelLayout((level,) * 8, spec.palette, 2), spec.kernel_shape)
    assert packed == int(file_bytes([8 * (p == level) for p in (4, 2, 1)], spec))


@pytest.mark.parametrize(
  "budget",
  [
    Budget("file_bytes", 4000, overhead_bytes=77),
    Budget("latency_us", 80, machine=MACHINE),
    Budget("mean_bits_params", 2.0),
    Budget("mean_bits_macs", 2.3),
  ],
  ids=lambda b: b.quantity,
)
@pytest.mark.parametrize("how", ["learned", "random"])
def test_assignments_spend_a_budget_and_no_more(budget, how):
  specs = {"first": SPECS["first"], "a": _layer("a", 40, 24), "b": _layer("b", 24, 20, k=1)}
  rng = np.random.default_rng(3)
  if how == "random":
    found = assign_random(specs, budget, 3)
  else:
    bits = {n: rng.uniform(1, 4, s.in_channels) for n, s in specs.items()}
    found = assign(bits, specs, budget)
  spent = _spent(budget, found, specs)
  assert 0.985 * budget.limit <= spent <= budget.limit * (1 + 1e-6)


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda b: b.quantity)
@pytest.mark.parametrize("seed", range(3))
def test_the_optimum_under_any_price_equals_brute_force(budget, seed):
  specs = {n: SPECS[n] for n in ("first", "a", "b")}
  rng = np.random.default_rng(seed)
  bits = {n: rng.uniform(1, 4.5, s.in_channels) for n, s in specs.items()}
  prices = prices_of(budget, specs)
  # A limit somewhere in the middle, where the budget binds.
  middle = prices.quantity(prices.total(Assignment.uniform(specs, 2))) * 1.1
  budget = Budget(budget.quantity, middle, overhead_bytes=budget.overhead_bytes,
                  machine=budget.machine)  # fmt: skip
  prices = prices_of(budget, specs)

  def cost(assignment):
    return sum(
      prices.slopes[n] * float(np.sum(4.0 ** (bits[n] - assignment.bits[n]))) for n in ("a", "b")
    )

  best = np.inf
  layers = []
  for name in ("a", "b"):
    rank = np.argsort(-bits[name], kind="stable")
    layers.append([])
    for levels in itertools.product((4, 2, 1), repeat=len(rank)):
      if all(p >= q for p, q in itertools.pairwise(levels)):
        value = np.empty(len(rank), int)
        value[rank] = levels
        layers[-1].append(value)
  for a, b in itertools.product(*layers):
    candidate = Assignment.create(specs, {"a": a, "b": b})
    if prices.total(candidate) <= prices.limit:
      best = min(best, cost(candidate))
  assert cost(assign(bits, specs, budget)) == pytest.approx(best, rel=1e-4)


def test_a_limit_below_the_least_is_refused_in_its_own_unit():
  with pytest.raises(
    ValueError, match=r"limit must be at least \d+, the least file_bytes .* got 80"
  ):
    assign({n: np.ones(s.in_channels) for n, s in SPECS.items()}, SPECS,
           Budget("file_bytes", 80, overhead_bytes=77))  # fmt: skip


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda b: b.quantity)
def test_the_least_limit_that_a_message_gives_is_enough(budget):
  bits = {n: np.ones(s.in_channels) for n, s in SPECS.items()}
  low = dataclasses.replace(budget, limit=1.0 if budget.quantity.startswith("mean") else 0.1)
  with pytest.raises(ValueError, match="must be at least") as error:
    assign(bits, SPECS, low)
  least = float(str(error.value).split("at least ")[1].split(",")[0])
  # A latency's prices are parts of its limit, each rounded up.
  slack = 1.00001 if budget.quantity == "latency_us" else 1
  found = assign(bits, SPECS, dataclasses.replace(budget, limit=least * slack))
  assert _spent(budget, found, SPECS) == pytest.approx(least, rel=1e-4)


def test_without_a_budget_nothing_limits():
  assert prices_of(None, SPECS).limit is None
