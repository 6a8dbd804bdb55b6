"""Benchmarks on tiny problems with made-up peers: rows, ratios, checks."""

import numpy as np
import pytest

from hetjax import ops
from hetjax.bench import layers, limits, matvec, networks, ours, profile, rows, suite, sweep
from hetjax.bench.workloads import MIXES, ConvSpec, MatvecSpec, bits_of, conv_graph, layout_of
from tests.bench.fakes import Gone, Right, Wrong

SQUARE = ConvSpec("tiny", 4, 8, 8)
IMAGE = ConvSpec("image", 6, 3, 4, kernel=3, strides=2, image=True)
DEPTHWISE = ConvSpec("depthwise", 4, 6, 6, groups=6)
PEERS = (Right(), Gone(), Wrong())


def test_shares_become_whole_channels():
  assert bits_of(MIXES["60/30/10"], 64).tolist() == [4] * 6 + [2] * 19 + [1] * 39
  assert bits_of(MIXES["8-bit"], 3).tolist() == [8, 8, 8]
  for channels in range(1, 40):
    assert len(bits_of(MIXES["60/30/10"], channels)) == channels
  assert layout_of(MIXES["60/30/10"], 1).palette.levels == (1,)


def test_geometry_of_specs_is_that_of_their_graphs():
  from hetjax.bench import execute

  for spec in (SQUARE, IMAGE, DEPTHWISE):
    x = np.zeros((1, spec.size, spec.size, spec.channels), np.float32)
    y = execute.run(conv_graph(spec), x)
    assert y.shape == (1, spec.out_size, spec.out_size, spec.outputs)
  assert IMAGE.macs == 3 * 3 * 3 * 4 * 3 * 3
  assert DEPTHWISE.macs == 9 * 6 * 16


def test_layers_give_a_row_for_every_engine():
  specs = (SQUARE, IMAGE)
  found = layers.measure(1, seconds=0.0, specs=specs, mixes=("60/30/10",), peers=PEERS)
  assert len(found) == 2 * (1 + 3)
  for spec in specs:
    here = {(r["engine"], r["mix"]): r for r in found if r["layer"] == spec.name}
    mine, peer = here["hetjax", "60/30/10"], here["right 32", "32-bit"]
    assert mine["over_float32"] == peer["microseconds"] / mine["microseconds"]
    assert mine["float32_peer"] == "right 32" and "over_int8" not in mine
    assert mine["gmacs"] == pytest.approx(spec.macs / mine["microseconds"] / 1e3)
    assert mine["low"] <= mine["microseconds"] <= mine["high"] and mine["calls"] >= 10
    assert here["gone", "32-bit"]["missing"] == "gone is not installed"
    assert "off by" in here["wrong", "32-bit"]["missing"]
    assert all(row["threads"] == 1 and row["macs"] == spec.macs for row in here.values())


def test_a_chain_counts_per_layer():
  candidates = ours.conv_candidates(DEPTHWISE, MIXES["2-bit"], (1, 4))
  assert [c.layers for c in candidates] == [1, 1, 4, 4]
  assert len({c.setting for c in candidates}) == 4
  one, same, four, equal = (c.result() for c in candidates)
  assert one.shape == four.shape
  np.testing.assert_array_equal(one, same)
  np.testing.assert_array_equal(four, equal)


def test_ratios_are_against_the_fastest_peer_of_a_type():
  row = lambda engine, mix, us: {"engine": engine, "mix": mix, "microseconds": us, "gmacs": 1.0}
  found = rows.with_ratios(
    [
      row("a", "32-bit", 30.0),
      row("b", "32-bit", 20.0),
      row("oneDNN Winograd", "32-bit", 10.0),
      row("c", "8-bit", 15.0),
      rows.missing("d", 8, "why"),
      row("hetjax", "8-bit", 5.0),
    ]
  )
  assert found[-1]["over_float32"] == 4.0 and found[-1]["float32_peer"] == "b"
  assert found[-1]["over_int8"] == 3.0 and found[-1]["int8_peer"] == "c"
  assert all("over_float32" not in r for r in found[:-1])


def test_wrong_kernels_are_never_timed(monkeypatch):
  true = ops.packed_conv

  def broken(*args, implementation=None, **kwargs):
    t = true(*args, implementation=implementation, **kwargs)
    return t if implementation == "reference" else t.at[0, 0, 0, 0].add(1)

  monkeypatch.setattr(ours.ops, "packed_conv", broken)
  with pytest.raises(ours.Wrong, match="1 of 128 accumulators differ"):
    ours.conv_candidates(SQUARE, MIXES["1-bit"])


def test_matrices_come_from_cache_and_from_memory():
  spec = MatvecSpec("tiny", 2, 256, 32)
  found = matvec.measure(
    1, seconds=0.0, specs=(spec,), mixes=("4-bit",), peers=(Right(),), footprint=20_000
  )
  assert [(r["place"], r["engine"]) for r in found] == [
    (place, engine) for place in ("cache", "memory") for engine in ("right 32", "hetjax")
  ]
  mine = found[-1]
  nanoseconds = 1e3 * mine["microseconds"]
  assert mine["gigabytes_per_second"] == pytest.approx(256 * 32 / 2 / nanoseconds)


def test_wrong_matrices_are_never_timed(monkeypatch):
  true = ops.packed_matmul

  def broken(*args, implementation=None, **kwargs):
    t = true(*args, implementation=implementation, **kwargs)
    return t if implementation == "reference" else t.at[0, 0].add(1)

  monkeypatch.setattr(ours.ops, "packed_matmul", broken)
  with pytest.raises(ours.Wrong, match="1 of 64 accumulators differ"):
    ours.dense_candidates([MatvecSpec("tiny", 2, 256, 32)], MIXES["1-bit"])


def test_batches_of_a_matrix_share_its_copies():
  specs = [MatvecSpec(f"{b}", b, 64, 32) for b in (1, 3)]
  one, three = ours.dense_candidates(specs, MIXES["2-bit"], copies=2)
  assert (len(one), len(three)) == (2, 2)
  np.testing.assert_array_equal(one[1].result(), three[0].result()[:1])


def test_a_peer_that_makes_no_copies_is_missing_from_memory():
  spec = MatvecSpec("tiny", 1, 256, 32)
  found = matvec.measure(1, seconds=0.0, specs=(spec,), mixes=(), peers=(Right(),), footprint=1e5)
  assert [r["missing"] for r in found] == ["it cannot have several copies of its weights"] * 2


def test_without_room_for_copies_weights_come_from_cache_alone():
  spec = MatvecSpec("tiny", 1, 256, 32)
  found = matvec.measure(
    1, seconds=0.0, specs=(spec,), mixes=("4-bit",), peers=(Right(),), footprint=1e15
  )
  assert found[0]["engine"] == "weights from memory" and "2000000 GB" in found[0]["missing"]
  assert [r["place"] for r in found[1:]] == ["cache", "cache"]


def test_copies_take_turns():
  calls = []
  from hetjax.bench.peers import Candidate

  turn = matvec.in_turn([Candidate("s", lambda i=i: calls.append(i), lambda: 0) for i in range(3)])
  for _ in range(5):
    turn.run()
  assert calls == [0, 1, 2, 0, 1]


TINY_NETWORK = networks.NetworkSpec("tiny", "transformer", (1, 4, 8))


@pytest.fixture
def tiny_models(monkeypatch):
  create = networks.models.create
  config = {"width": 8, "depth": 1, "heads": 2, "mlp_ratio": 2, "classes": 3, "max_length": 4}
  monkeypatch.setattr(
    networks.models, "create", lambda name, **more: create(name, **config, **more)
  )


def test_networks_are_compared(tiny_models):
  found = networks.measure(1, seconds=0.0, specs=(TINY_NETWORK,), peers=PEERS)
  by_engine = {row["engine"]: row for row in found}
  assert by_engine["hetjax"]["over_float32"] > 0
  assert set(by_engine) == {"right 32", "gone", "wrong", "hetjax"}
  assert by_engine["hetjax"]["macs"] == 4 * (8 * 8 * 5 + 2 * 8 * 16) + 8 * 3


def test_profiles_account_for_every_packed_layer(tiny_models):
  found = profile.measure(1, seconds=0.0, specs=(TINY_NETWORK,))
  packed = [row for row in found[:-1] if row["macs"]]
  assert len(packed) == 8 and found[-1]["macs"] == sum(row["macs"] for row in packed)
  assert sum(row["share"] for row in found[:-1]) == pytest.approx(1)
  assert found[-1]["what"] == "the whole network in one call"


def test_sweeps_show_cliffs(monkeypatch):
  specs = [ConvSpec(f"{n}", 2, 2, n) for n in (1, 2, 4)]
  found = sweep.measure(1, seconds=0.0, sweeps={"outputs": specs})
  each = [row["picoseconds_per_mac"] for row in found]
  assert "over_best_so_far" not in found[0]
  assert found[2]["over_best_so_far"] == pytest.approx(each[2] / min(each[:2]))


def test_limits_are_positive_and_named(monkeypatch):
  monkeypatch.setattr(limits, "PLACES", {"cache": 4096, "memory": 1 << 20})
  found = limits.measure(2, seconds=0.0)
  names = [row["limit"] for row in found]
  assert {"read, cache", "copy, cache"} <= set(names)
  assert {row["unit"] for row in found} == {"GB/s", "GMAC/s", "us"}
  assert all(row["value"] > 0 for row in found)
  assert all(row["low"] <= row["value"] <= row["high"] for row in found if "low" in row)


def test_choices_are_by_parts_of_names():
  named = {"3x3 conv": 1, "1x1 conv": 2}
  assert suite.chosen("only", named, None) == [1, 2]
  assert suite.chosen("only", named, ["3X3"]) == [1]
  assert suite.chosen("only", named, []) == []
  with pytest.raises(ValueError, match="only must be parts of .*, got '5x5'"):
    suite.chosen("only", named, ["5x5"])
  assert suite.arguments("networks", {})["mixes"] == ["60/30/10"]
  assert suite.arguments("layers", {})["mixes"] == list(MIXES)
  assert suite.arguments("layers", {"peers": ["XLA"], "seconds": 3})["seconds"] == 3


def test_every_peer_has_a_tolerance():
  from hetjax.bench.peers import PEERS

  assert {peer.bits for peer in PEERS} <= set(layers.TOLERANCES) & set(matvec.TOLERANCES)
