"""Assignment against brute force, its rules as properties, its speed, and the baselines."""

import itertools
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hetjax.core import Assignment, LayerSpec, Palette
from hetjax.core.precision import channel_weights
from hetjax.core.precision import mean_bits as mean_of
from hetjax.learn.assign import assign, assignment_report
from hetjax.learn.baselines import assign_by_weight_rms, assign_random
from hetjax.learn.budget import Budget

PALETTES = [(1, 2, 4), (2, 4, 8), (1, 4), (4, 8), (1, 2), (2,), (1, 2, 8)]


def _spec(name, channels, outputs=1, *, levels=(1, 2, 4), pinned=None, positions=1, k=1, groups=1):
  palette = Palette((pinned,)) if pinned else Palette(levels)
  shape = (k, k, channels // groups, outputs)
  return LayerSpec(name, shape, groups, palette, False, pinned, positions)


def _mean(limit, by="params"):
  return Budget(f"mean_bits_{by}", limit)


def _specs(*specs):
  return {s.name: s for s in specs}


def _monotone_layers(bits, spec, granules):
  """All allowed level vectors of a layer, by brute force over every vector of levels."""
  if spec.pinned_bits is not None:
    return [np.full(spec.in_channels, spec.pinned_bits)]
  rank = sorted(range(spec.in_channels), key=lambda k: (-bits[k], k))
  allowed = []
  for levels in itertools.product(spec.palette.levels, repeat=spec.in_channels):
    if any(levels[a] < levels[b] for a, b in itertools.pairwise(rank)):
      continue
    ragged = sum(levels.count(p) % granules.get(p, 1) != 0 for p in spec.palette.levels)
    if ragged <= 1:
      allowed.append(np.array(levels))
  return allowed


def _cost(bits, assignment, specs, by, priced=False):
  """By plain floats; `priced` if there is no budget."""
  weights, cost = channel_weights(specs, by), 0.0
  for name, spec in specs.items():
    if spec.pinned_bits is None:
      for learned, level in zip(bits[name].tolist(), assignment[name].tolist(), strict=True):
        learned = min(max(learned, spec.palette.pmin - 4), spec.palette.pmax + 4)
        noise = 4.0 ** (learned - level)
        cost += weights[name] * (noise / math.log(4) + level if priced else noise)
  return cost


def _rounding(specs, by):
  """What rounding every channel's error to a multiple of 2^-16 can make of a cost, twice."""
  return sum(w * specs[n].in_channels for n, w in channel_weights(specs, by).items()) * 2.0**-16


def _total(assignment, specs, by):
  weights = channel_weights(specs, by)
  return sum(weights[n] * int(np.sum(assignment[n], dtype=int)) for n in specs)


@st.composite
def _cases(draw):
  specs, bits = [], {}
  for i in range(draw(st.integers(1, 3))):
    channels = draw(st.integers(1, 5))
    pinned = draw(st.sampled_from([None, None, None, 8]))
    spec = _spec(
      f"l{i}", channels, draw(st.integers(1, 7)), levels=draw(st.sampled_from(PALETTES)),
      pinned=pinned, positions=draw(st.integers(1, 5)),
    )  # fmt: skip
    specs.append(spec)
    # Quarters: many ties, between channels and between levels.
    quarters = draw(st.lists(st.integers(4, 36), min_size=channels, max_size=channels))
    bits[spec.name] = np.array(quarters, np.float32) / 4
  granules = draw(st.sampled_from([{}, {1: 2, 2: 3, 4: 2, 8: 2}, {1: 3, 2: 1, 4: 2}, {2: 4}]))
  by = draw(st.sampled_from(["params", "macs"]))
  budget = draw(st.one_of(st.none(), st.integers(10, 90).map(lambda x: x / 10)))
  return _specs(*specs), bits, granules, by, budget


@settings(max_examples=400, deadline=None)
@given(_cases())
def test_optimum_equals_brute_force(case):
  specs, bits, granules, by, budget = case
  whole = sum(w * specs[n].in_channels for n, w in channel_weights(specs, by).items())
  best, least = math.inf, math.inf
  layers = [_monotone_layers(bits[n], s, granules) for n, s in specs.items()]
  for choice in itertools.product(*layers):
    candidate = dict(zip(specs, choice, strict=True))
    total = _total(candidate, specs, by)
    least = min(least, total)
    if budget is None or total * 10 <= round(budget * 10) * whole:
      best = min(best, _cost(bits, candidate, specs, by, budget is None))
  if best == math.inf:
    with pytest.raises(ValueError, match=f"the least mean_bits_{by}") as error:
      assign(bits, specs, budget and _mean(budget, by), granules=granules)
    told = float(str(error.value).split("at least ")[1].split(",")[0])
    assert least / whole <= told <= least / whole + 1e-4
    return
  result = assign(bits, specs, budget and _mean(budget, by), granules=granules)
  cost = _cost(bits, result.bits, specs, by, budget is None)
  assert cost == pytest.approx(best, rel=1e-9, abs=_rounding(specs, by))
  for (name, value), allowed in zip(result.bits.items(), layers, strict=True):
    assert any(np.array_equal(value, a) for a in allowed), name
  if budget is not None:
    assert _total(result.bits, specs, by) * 10 <= round(budget * 10) * whole
  assert result == assign(bits, specs, budget and _mean(budget, by), granules=granules)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(PALETTES))
def test_generic_reals_equal_brute_force(seed, levels):
  rng = np.random.default_rng(seed)
  specs = _specs(*(_spec(f"l{i}", 4, int(rng.integers(1, 40)), levels=levels) for i in range(3)))
  bits = {n: (1 + 8 * rng.random(4)).astype(np.float32) for n in specs}
  budget = round(float(rng.uniform(levels[0], levels[-1])), 3)
  layers = [_monotone_layers(bits[n], s, {}) for n, s in specs.items()]
  whole = sum(s.weights for s in specs.values())
  choices = [dict(zip(specs, c, strict=True)) for c in itertools.product(*layers)]
  fits = [c for c in choices if _total(c, specs, "params") * 1000 <= round(budget * 1000) * whole]
  best = min(_cost(bits, c, specs, "params") for c in fits)
  result = assign(bits, specs, _mean(budget))
  found = _cost(bits, result.bits, specs, "params")
  assert found == pytest.approx(best, rel=1e-9, abs=_rounding(specs, "params"))


def _resnet18():
  specs, width = [_spec("stem", 3, 64, pinned=8, positions=112**2, k=7)], 64
  for stage, (out, side) in enumerate([(64, 56), (128, 28), (256, 14), (512, 7)]):
    for block in range(2):
      name = f"stage{stage}_block{block}"
      specs.append(_spec(f"{name}/conv1", width, out, positions=side**2, k=3))
      specs.append(_spec(f"{name}/conv2", out, out, positions=side**2, k=3))
      if width != out:
        specs.append(_spec(f"{name}/shortcut", width, out, positions=side**2))
      width = out
  return _specs(*specs, _spec("head", 512, 1000, pinned=8))


@pytest.mark.parametrize("granules", [None, {1: 32, 2: 48, 4: 16}])
@pytest.mark.parametrize("by", ["params", "macs"])
def test_resnet18_is_fast_tight_and_monotone(by, granules):
  specs = _resnet18()
  rng = np.random.default_rng(0)
  bits = {n: (1 + 3 * rng.random(s.in_channels) ** 2).astype(np.float32) for n, s in specs.items()}
  begin = time.perf_counter()
  result = assign(bits, specs, _mean(1.8, by), granules=granules)
  assert time.perf_counter() - begin < 10
  mean = float(mean_of(result.bits, specs, by))
  assert 1.79 < mean <= 1.8 + 1e-6
  for name, spec in specs.items():
    if spec.pinned_bits is not None:
      assert (result.bits[name] == 8).all()
      continue
    ranked = result.bits[name][np.argsort(-bits[name], kind="stable")]
    assert (np.diff(ranked) <= 0).all()
    ragged = [p for p, c in result.counts(name).items() if c % (granules or {}).get(p, 1)]
    assert len(ragged) <= 1


def test_ties_go_to_the_earlier_channel():
  result = assign({"a": np.full(4, 3.5)}, _specs(_spec("a", 4)), _mean(3.0))
  assert result.bits["a"].tolist() == [4, 4, 2, 2]


def test_without_a_budget_levels_are_those_of_the_searchs_own_price():
  specs = _specs(_spec("a", 4), _spec("b", 4, levels=(2, 4, 8)))
  bits = {"a": np.array([1.43, 1.45, 2.77, 2.79]), "b": np.array([2.77, 2.79, 5.23, 5.25])}
  result = assign(bits, specs, None)
  assert {n: b.tolist() for n, b in result.bits.items()} == {"a": [1, 2, 2, 4], "b": [2, 4, 4, 8]}


def test_a_budget_is_spent_where_bits_fall_short_the_most():
  specs = _specs(_spec("small", 2, 1, levels=(2, 4, 8)), _spec("large", 2, 50, levels=(2, 4, 8)))
  bits = {"small": np.array([5.5, 4.5]), "large": np.array([3.1, 2.5])}
  whole = 2 * 1 + 2 * 50
  result = assign(bits, specs, _mean((2 * 8 + 50 * (4 + 2)) / whole))
  assert {n: b.tolist() for n, b in result.bits.items()} == {"small": [8, 8], "large": [4, 2]}


def test_a_decimal_budget_means_the_decimal():
  # 1.7 as a float is a little less than 17/10; ten channels still get seventeen bits.
  result = assign({"a": np.full(10, 2.0)}, _specs(_spec("a", 10)), _mean(1.7))
  assert int(result.bits["a"].sum()) == 17


def test_pinned_layers_use_up_the_budget():
  specs = _specs(_spec("first", 2, 4, pinned=8), _spec("a", 8, 4))
  bits = {"a": np.linspace(4, 1, 8)}
  result = assign(bits, specs, _mean(3.2))
  assert int(result.bits["a"].sum()) == 16
  with pytest.raises(ValueError, match="at least 2.4"):
    assign(bits, specs, _mean(2.3))
  only = _specs(_spec("first", 2, 4, pinned=8))
  assert assign({}, only, _mean(8)).bits["first"].tolist() == [8, 8]
  with pytest.raises(ValueError, match="at least 8"):
    assign({}, only, _mean(7.9))


@pytest.mark.parametrize(
  ("bits", "granules", "message"),
  [
    ({}, None, "must hold layer 'a'"),
    ({"a": np.ones(3)}, None, r"shape \(2,\), got \(3,\)"),
    ({"a": np.array([1, np.nan])}, None, "must be finite, got nan"),
    ({"a": np.ones(2)}, {2: 0}, "at least 1, got 0 for level 2"),
  ],
)
def test_bad_input_is_refused(bits, granules, message):
  with pytest.raises(ValueError, match=message):
    assign(bits, _specs(_spec("a", 2)), _mean(2.0), granules=granules)


def test_layers_too_large_for_exact_sums_are_refused():
  specs = _specs(_spec("a", 2, 1 << 48))
  with pytest.raises(ValueError, match="too large for an exact assignment"):
    assign({"a": np.array([1e30, 1])}, specs, None)


def test_report_counts_and_means():
  specs = _specs(_spec("p", 1, 2, pinned=8), _spec("a", 3, 2, positions=5))
  report = assignment_report(
    {"a": np.array([3.0, 2.0, 1.0])},
    Assignment.create(specs, {"a": np.array([4, 2, 1])}), specs,
  )  # fmt: skip
  layer = report["layers"]["a"]
  assert layer["counts"] == {"4": 1, "2": 1, "1": 1}
  assert layer["mean_bits"] == pytest.approx(7 / 3)
  assert layer["mean_change"] == pytest.approx(1 / 3)
  assert layer["rms_change"] == pytest.approx(math.sqrt(1 / 3))
  assert report["mean_bits_params"] == pytest.approx(15 / 4)
  assert report["mean_bits_macs"] == pytest.approx((8 + 5 * 7) / 16)
  assert report["learned_mean_bits_params"] == pytest.approx(14 / 4)
  assert report["rms_change"] == pytest.approx(0.5)
  assert report["layers"]["p"]["rms_change"] == 0


@pytest.mark.parametrize("mean", [2.5, 3.0, 3.5])
def test_random_baseline_spends_the_budget_and_follows_its_seed(mean):
  specs = _specs(_spec("p", 8, 4, pinned=8), _spec("a", 64, 8), _spec("b", 96, 16, k=3))
  first, again = (assign_random(specs, _mean(mean), 1, granules={1: 8, 2: 4}) for _ in range(2))
  assert first == again
  assert first != assign_random(specs, _mean(mean), 2, granules={1: 8, 2: 4})
  assert mean - 0.1 < float(mean_of(first.bits, specs)) <= mean + 1e-6
  assert set(first.counts("b")) == ({1, 2, 4} if mean < 3.5 else {2, 4})


def test_weight_rms_baseline_ranks_channels_of_all_groups():
  specs = _specs(_spec("a", 4, 6, k=3, groups=2), _spec("d", 4, 5))
  scale = np.array([1.0, 3.0, 4.0, 2.0])
  # Input channel k of group g meets only the output channels of group g.
  grouped = np.zeros((3, 3, 2, 6))
  grouped[..., :3] = scale[None, None, :2, None]
  grouped[..., 3:] = scale[None, None, 2:, None]
  kernels = {"a": grouped, "d": -np.ones((4, 5)) * scale[:, None]}
  result = assign_by_weight_rms(kernels, specs, _mean(2.0))
  for bits in result.bits.values():
    assert bits[2] >= bits[1] >= bits[3] >= bits[0]
    assert bits[2] > bits[0]
  with pytest.raises(ValueError, match="kernel of 'a' must have shape"):
    assign_by_weight_rms({"a": np.ones((2, 2)), "d": np.ones((4, 5))}, specs, _mean(2.0))


def test_without_free_layers_the_baselines_hold_the_pinned_levels():
  specs = _specs(_spec("p", 3, 4, pinned=8))
  assert assign_random(specs, _mean(8.0), 0).bits["p"].tolist() == [8, 8, 8]


@pytest.mark.parametrize("budget", [1.5, 2.0, 2.7, 3.5, None])
def test_whole_layers_get_the_best_single_levels_within_the_budget(budget):
  specs = _specs(_spec("a", 3, 2), _spec("b", 5), _spec("c", 4, 3), _spec("d", 2, levels=(2, 4)))
  rng = np.random.default_rng(0)
  bits = {n: rng.uniform(1, 5, s.in_channels) for n, s in specs.items()}
  got = assign(bits, specs, budget and _mean(budget), whole_layers=True).bits
  assert all(len(set(levels.tolist())) == 1 for levels in got.values())
  size = sum(s.weights for s in specs.values())
  costs, priced = [], budget is None
  for levels in itertools.product(*(s.palette.levels for s in specs.values())):
    one = {n: np.full(s.in_channels, p) for (n, s), p in zip(specs.items(), levels, strict=True)}
    if budget is None or _total(one, specs, "params") <= budget * size:
      costs.append(_cost(bits, one, specs, "params", priced))
  assert _cost(bits, got, specs, "params", priced) == pytest.approx(min(costs), rel=1e-3)
