"""Calibration on machines that are made up, whose costs are known."""

import itertools

import numpy as np
import pytest

from hetjax.bench import calibrate
from hetjax.bench.workloads import MIXES, ConvSpec
from hetjax.hardware.target import parse_target


def test_layers_count_macs_bytes_and_themselves():
  spec = ConvSpec("", 4, 10, 6)
  found = calibrate.features(spec, MIXES["60/30/10"])
  macs = 9 * 6 * 16
  assert found.tolist() == [6 * macs, 3 * macs, macs, 0, (6 + 3 * 2 + 4) * 9 * 6 / 8, 1]


def test_fits_are_exact_where_they_can_be_and_never_negative():
  rng = np.random.default_rng(0)
  a = rng.uniform(size=(20, 3)) * [1e9, 1e3, 1]
  x = np.array([1e-9, 0.0, 3.0])
  np.testing.assert_allclose(calibrate.non_negative_fit(a, a @ x), x, rtol=1e-6, atol=1e-9)
  found = calibrate.non_negative_fit(a, a @ np.array([1e-9, -1e-4, 3.0]))
  assert np.all(found >= 0)


@pytest.mark.parametrize("granule", calibrate.GRANULES)
def test_granules_are_found_in_staircases(granule):
  counts = np.array(calibrate.COUNTS)
  noise = 1 + 0.002 * np.random.default_rng(granule).normal(size=len(counts))
  seconds = (20 + 100 * np.ceil(counts / granule) * granule / 64) * noise
  assert calibrate.granule_of(counts, seconds) == granule


def test_a_machine_is_found_again(monkeypatch):
  """Times by the model itself: the target holds its costs and predicts all layers."""
  costs = np.array([1e-12, 2e-12, 4e-12, 9e-12, 3e-11, 5e-6])

  def layer_seconds(layers, seconds):
    if {spec.outputs for spec, _ in layers} == {128}:  # those that granules are looked for in
      return np.array([np.ceil(spec.channels / 32) for spec, _ in layers])
    return np.array([calibrate.features(*layer) @ costs for layer in layers])

  monkeypatch.setattr(calibrate, "layer_seconds", layer_seconds)
  monkeypatch.setattr(calibrate, "frequency_ghz", lambda: 2.0)
  monkeypatch.setattr(calibrate.xla_cpu, "active_isa", lambda: "made up")
  monkeypatch.setattr(calibrate.xla_cpu, "compiler", lambda: "none")
  fitted = [
    ConvSpec(f"{s} {c}", s, c, 2 * c, kernel=k)
    for s, c, k in itertools.product((1, 7, 14), (32, 512), (1, 3))
  ]
  target, rows = calibrate.calibrate("mine", fitted=fitted)
  assert [level.bits for level in target.levels] == [1, 2, 4, 8]
  per_mac = [level.cycles_per_mac for level in target.levels]
  np.testing.assert_allclose(per_mac, costs[:4] * 2e9, rtol=1e-3)
  assert target.cycles_per_byte == pytest.approx(costs[4] * 2e9, rel=1e-3)
  assert target.cycles_per_op == pytest.approx(costs[5] * 2e9, rel=1e-3)
  assert {level.granule for level in target.levels} == {32}
  assert calibrate.mean_error(rows, fitted=False) < 1e-3
  assert {row["fitted"] for row in rows} == {True, False}
  assert parse_target(target.to_json(), "mine") == target


def test_layers_are_timed_for_real():
  found = calibrate.layer_seconds([(ConvSpec("", 2, 4, 4), {2: 1.0})], 0.0)
  assert found.shape == (1,) and found[0] > 0
