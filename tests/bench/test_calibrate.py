"""Calibration on machines that are made up, whose costs are known."""

import dataclasses

import numpy as np
import pytest

from hetjax.bench import calibrate, calibration_layers, command, suite
from hetjax.bench.workloads import MIXES, ConvSpec, bits_of
from hetjax.core import LayerSpec, Palette
from hetjax.hardware import layer_cycles
from hetjax.hardware.target import Level, Target, parse_target

MIX = {1: 0.6, 2: 0.3, 4: 0.1}
# Seconds per product at 1, 2, 4 and 8 bits, byte, output, position and level, layer.
COSTS = np.array([1e-12, 2e-12, 4e-12, 9e-12, 3e-11, 1e-9, 2e-8, 5e-6])


def test_layers_count_all_that_they_pay():
  spec = ConvSpec("", 4, 10, 6)
  macs, packed_bytes = 9 * 6 * 16, (6 + 3 * 2 + 4) * 9 * 6 / 8
  found = calibrate.features(spec, MIX, 1)
  assert found.tolist() == [6 * macs, 3 * macs, macs, 0, packed_bytes, 6 * 16, 3 * 16, 1]
  found = calibrate.features(spec, {8: 1.0}, 4)  # six outputs run as eight
  macs = 9 * 8 * 16
  assert found.tolist() == [0, 0, 0, 10 * macs, 10 * 9 * 6, 8 * 16, 16, 1]
  depthwise = ConvSpec("", 5, 10, 10, strides=2, groups=10)
  found = calibrate.features(depthwise, MIX, 4)
  assert found.tolist() == [6 * 81, 3 * 81, 81, 0, 16 * 9 / 8, 10 * 9, 3 * 9, 1]


def test_layers_are_described_as_the_cost_model_knows_them():
  spec = ConvSpec("a", 9, 12, 24, strides=2, groups=2)
  assert calibrate.layer_spec(spec, {8: 0.5, 2: 0.5}) == LayerSpec(
    "a", (3, 3, 6, 24), 2, Palette((2, 8)), False, None, 25
  )


@pytest.mark.parametrize("granule", calibrate.OUTPUT_GRANULES)
def test_costs_and_output_granules_are_found_again_in_noise(granule):
  """Two hundredths of noise and a tenth of the layers disturbed, as by another's work."""
  rng = np.random.default_rng(granule)
  samples = [(s, m) for s in calibrate.FITTED for m in calibrate.FITTED_MIXES.values()]
  counts = np.stack([calibrate.features(*sample, granule) for sample in samples])
  seconds = counts @ COSTS * (1 + 0.02 * rng.normal(size=len(samples)))
  seconds[rng.permutation(len(samples))[: len(samples) // 10]] *= 1.5
  found, costs = calibrate.fit(samples, seconds)
  assert found == granule
  np.testing.assert_allclose(costs, COSTS, rtol=0.15)


def test_fits_see_no_judged_layer():
  fitted = [dataclasses.replace(s, name="") for s in calibration_layers.FITTED]
  judged = [dataclasses.replace(s, name="") for s in calibration_layers.JUDGED]
  assert not set(fitted) & set(judged) and len(set(judged)) == len(judged)
  assert MIXES[calibrate.JUDGED_MIX] not in calibration_layers.FITTED_MIXES.values()
  assert {1, 2, 4, 8} == {p for mix in calibration_layers.FITTED_MIXES.values() for p in mix}


@pytest.fixture
def made_up(monkeypatch):
  """A machine whose times are the model's, and 32 channels in one step."""

  def layer_seconds(layers, seconds):
    if {spec.name for spec, _ in layers} == {f"{c} channels" for c in calibrate.COUNTS}:
      return np.array([np.ceil(spec.channels / 32) for spec, _ in layers])
    return np.array([calibrate.features(*layer, 16) @ COSTS for layer in layers])

  monkeypatch.setattr(calibrate, "layer_seconds", layer_seconds)
  monkeypatch.setattr(calibrate, "frequency_ghz", lambda: 2.0)
  monkeypatch.setattr(calibrate, "CHECKED", ())
  monkeypatch.setattr(calibrate.xla_cpu, "active_isa", lambda: "made up")
  monkeypatch.setattr(calibrate.xla_cpu, "compiler", lambda: "none")


def test_a_machine_is_found_again(made_up):
  """Times by the model itself: the target holds its costs and predicts all layers."""
  target, rows = calibrate.calibrate("mine")
  levels = [
    Level(p, 32, pytest.approx(c * 2e9, rel=1e-3))
    for p, c in zip((1, 2, 4, 8), COSTS[:4], strict=True)
  ]
  texts = {"name": "mine", "description": target.description, "provenance": target.provenance}
  names = ("cycles_per_byte", "cycles_per_output", "cycles_per_position", "cycles_per_op")
  costs = {n: pytest.approx(c * 2e9, rel=1e-3) for n, c in zip(names, COSTS[4:], strict=True)}
  assert target == Target(
    **texts, frequency_ghz=2.0, levels=tuple(levels), output_granule=16, **costs
  )
  assert "made up" in target.description and "built with none" in target.provenance
  assert f"0.0 % on {len(calibrate.JUDGED)} mixed layers" in target.provenance
  assert calibrate.mean_error(rows, fitted=False) < 1e-3
  assert calibrate.mean_error(rows, fitted=True) < 1e-3
  assert [row["layer"] for row in rows if not row["fitted"]] == [s.name for s in calibrate.JUDGED]
  assert parse_target(target.to_json(), "mine") == target


def test_rows_predict_what_training_is_told():
  target = calibrate.target_of("a", 2.0, dict.fromkeys((1, 2, 4, 8), 1), 16, COSTS)
  spec = ConvSpec("a", 9, 12, 24)
  row = calibrate.row_of(spec, "60/30/10", MIX, 1e-5, target)
  bits = {"a": bits_of(MIX, 12)}
  cycles = layer_cycles(bits, {"a": calibrate.layer_spec(spec, MIX)}, target)["a"]
  assert row["predicted"] == pytest.approx(float(cycles) / 2e3, rel=1e-6)
  assert row["measured"] == 10 and row["error"] == row["predicted"] / 10 - 1


def test_kernels_are_checked_before_they_are_measured(made_up, monkeypatch):
  def wrong(*_):
    raise calibrate.ours.Wrong("no")

  monkeypatch.setattr(calibrate, "CHECKED", calibration_layers.CHECKED)
  monkeypatch.setattr(calibrate.ours, "conv_candidates", wrong)
  with pytest.raises(calibrate.ours.Wrong):
    calibrate.calibrate("mine")


def test_tables_show_judged_layers_and_both_errors():
  rows = [
    {"layer": name, "mix": "1-bit", "measured": 2.0, "predicted": 2.0 + e, "error": e / 2}
    | {"fitted": name == "seen"}
    for name, e in (("unseen", 0.5), ("unseen", -0.1), ("seen", 1.0))
  ]
  text = command.tables("calibrate", rows)
  assert "+25.0 %" in text and "\nseen" not in text
  assert "the fit did not see (2): 15.0 %, largest 25.0 %" in text
  assert "those it saw (1): 50.0 %, largest 50.0 %" in text
  assert suite.BENCHMARKS["calibrate"].columns == calibrate.COLUMNS
