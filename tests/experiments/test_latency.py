"""Latency of packed networks beside engines, and the plot of score against bytes and time."""

import json

import pytest

from experiments import measure, points
from hetjax import models
from hetjax.bench.peers.xla import Xla
from hetjax.nn.packing import artifact_of
from hetjax.pack import write_artifact
from tests.shared import tiny
from tests.shared.nets import quantized_variables


def test_networks_and_engines_take_turns(tmp_path):
  experiment = tiny.shared()
  model = experiment.run.model
  variables, specs = quantized_variables(model, experiment.run.example()[:1])
  path = tmp_path / "net.safetensors"
  artifact = artifact_of(models.name_of(model), models.config_of(model), variables, specs)
  write_artifact(path, artifact)
  rows, absent = measure.beside_engines(experiment, {"net": path}, 1, 0.2, (Xla(),))
  assert [row["name"] for row in rows] == ["XLA float32", "net"] and absent == []
  engine, ours = rows
  assert engine["engine"] and not ours["engine"] and ours["float32_peer"] == "XLA float32"
  ratio = engine["microseconds"] / ours["microseconds"]
  assert ours["over_xla"] == pytest.approx(ratio) == ours["over_float32"]
  assert ours["low"] <= ours["microseconds"] <= ours["high"]


def _row(method, seed, score, size, label="", limit=2.0):
  return {
    "name": f"{method}{label}{limit}{seed}", "method": method, "label": label, "seed": seed,
    "splits": ["test"], "accuracy": {"test": score}, "loss": {"test": 0.3}, "file_bytes": size,
    "budget": {"quantity": "mean_bits_params", "limit": limit, "machine": None},
  }  # fmt: skip


@pytest.fixture
def folder(tmp_path):
  rows = [
    _row("heterogeneous", 0, 92.0, 100), _row("heterogeneous", 1, 93.0, 104),
    _row("heterogeneous", 0, 90.0, 60, limit=1.0), _row("uniform", 0, 91.0, 101),
    _row("uniform", 0, 91.5, 101, label="kd"), _row("float32", 0, 94.0, 1600),
  ]  # fmt: skip
  for row in rows:
    (tmp_path / f"{row['name']}.json").write_text(json.dumps({"rows": [row]}))
  times = [{"name": "heterogeneous2.00", "microseconds": 7.0}, {"name": "XLA", "microseconds": 9.0}]
  (tmp_path / "latency.json").write_text(json.dumps({"rows": times}))
  (tmp_path / "assignment.json").write_text(json.dumps({"rows": [{"name": "heterogeneous2.00"}]}))
  return tmp_path


def test_seeds_are_one_point_and_labels_are_methods(folder):
  rows = points.trial_rows(folder, "test")
  assert len(rows) == 6
  assert points.points(rows, "file_bytes") == {
    "heterogeneous": [(60.0, 90.0, 0.0), (102.0, 92.5, 0.5)],
    "uniform": [(101.0, 91.0, 0.0)],
    "uniform, kd": [(101.0, 91.5, 0.0)],
  }
  assert points.points(rows, "microseconds") == {"heterogeneous": [(7.0, 92.0, 0.0)]}
  joined = points.points(rows, "file_bytes", ("kd",))
  assert joined["uniform"] == [(101.0, 91.0, 0.0), (101.0, 91.5, 0.0)] and len(joined) == 2
  with pytest.raises(ValueError, match="must hold trials scored on 'valid'"):
    points.trial_rows(folder, "valid")
  (folder / "other.json").write_text(json.dumps({"provenance": {}}))
  with pytest.raises(ValueError, match="other.json is not a result file"):
    points.trial_rows(folder, "test")


def test_the_plot_is_written(folder):
  pytest.importorskip("matplotlib")
  rows = points.trial_rows(folder, "test")
  with pytest.raises(ValueError, match=r"joined labels must be among \['kd'\], got \['dk'\]"):
    points.plot(str(folder / "p.svg"), rows, "test", ("dk", "kd"))
  points.plot(str(folder / "p.svg"), rows, "test", ("kd",))
  text = (folder / "p.svg").read_text()
  assert text.lstrip().startswith("<?xml") and len(text) > 5000
