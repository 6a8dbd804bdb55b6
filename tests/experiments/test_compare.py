"""Comparisons: every method in equal epochs, each trial a result file that is not made twice."""

import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments import assigned, compare, repeated, trials
from hetjax.hardware import load_target
from hetjax.learn import methods, phases
from hetjax.learn.recipe import Experiment
from tests.shared import tiny_config

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config():
  settings = tiny_config.get_config()
  settings.data = "synthetic"
  for phase in ("train", "search", "finetune"):
    settings[phase].steps = 2
    settings[phase].warmup_steps = 1
  return settings.to_dict()


@pytest.fixture(scope="module")
def compared(config, tmp_path_factory):
  """Folder of one comparison of all methods, and its rows by method."""
  folder = tmp_path_factory.mktemp("compare")
  wanted = [
    trials.Trial(method, limit=4.0 if method in ("uniform", trials.QWIX) else 3.5)
    for method in (trials.FLOAT, trials.QWIX, *methods.METHODS)
  ]
  assert trials.run_all(config, wanted, folder, folder / "results", ("valid",)) == []
  rows = {}
  for trial in wanted:
    record = json.loads((folder / "results" / f"{trial.name}.json").read_text())
    assert record["provenance"]["seed"] == 0 and record["config"]["budget"]["limit"] == trial.limit
    rows[trial.method] = record["rows"][0]
  return folder, wanted, rows


def test_all_methods_take_the_same_epochs_and_run_packed_as_they_trained(compared):
  _, _, rows = compared
  assert len({row["epochs"] for row in rows.values()}) == 1
  assert all(row.get("disagreements", 0) == 0 for row in rows.values())
  assert all(set(row["accuracy"]) == {"valid"} for row in rows.values())
  assert rows["float32"]["file_bytes"] == rows["heterogeneous"]["float_bytes"]


@pytest.mark.parametrize("method", [trials.FLOAT, trials.QWIX])
def test_networks_in_float_units_are_trained_by_the_float_phase_s_rates(
  config, tmp_path, monkeypatch, method
):
  class Trained(Exception):
    pass

  trained = []

  def train(run, phase, *_):
    trained.append(phase)
    if phase.steps > 2:  # not the float network that others start from
      raise Trained
    return real(run, phase, *_)

  real = phases.Run.train
  monkeypatch.setattr(phases.Run, "train", train)
  float_ = {"learning_rate": 3e-3, "other_rate": 2e-3, "end_fraction": 0.5}
  finetune = {"learning_rate": 5e-2, "scale_rate": 1e-2}
  changed = config | {k: config[k] | v for k, v in (("train", float_), ("finetune", finetune))}
  with pytest.raises(Trained):
    trials.run_trial(changed, trials.Trial(method, limit=4.0), tmp_path, ("valid",))
  rates = trained[-1].optimizer
  assert (rates.learning_rate, rates.other_rate, rates.scale_rate) == (3e-3, 2e-3, 0.0)
  assert rates.end_fraction is None


def test_methods_keep_the_budget_and_layerwise_gives_a_layer_one_level(compared):
  _, _, rows = compared
  for method in ("heterogeneous", "layerwise", "random", "weight_rms"):
    assert rows[method]["mean_bits"] <= 3.5, method
  assert all(len(counts) == 1 for counts in rows["layerwise"]["channels"].values())
  assert all(len(counts) == 1 for counts in rows["uniform"]["channels"].values())
  assert any(len(counts) > 1 for counts in rows["random"]["channels"].values())


@pytest.mark.parametrize("method", ["heterogeneous", "layerwise"])
def test_an_assignment_is_judged_from_checkpoints_without_training(compared, config, method):
  folder, wanted, rows = compared
  (trial,) = (t for t in wanted if t.method == method)
  recipe = trials.recipe_of(trials.configured(config, trial))
  before = {p: p.stat().st_mtime_ns for p in folder.glob("*/checkpoints/*/*/*")}
  row = assigned.assignment_row(recipe, trial, folder, 12.5, "valid")
  assert before == {p: p.stat().st_mtime_ns for p in folder.glob("*/checkpoints/*/*/*")}
  report = json.loads((folder / trial.name / "assignment.json").read_text())
  assert row["learned"] == pytest.approx(report["learned_mean_bits_params"], rel=1e-5)
  assert row["off"] == pytest.approx(100 * (row["learned"] / 3.5 - 1))
  assert row["assigned"] == pytest.approx(rows[method]["mean_bits"]) and row["assigned"] <= 3.5
  assert row["rms_change"] == report["rms_change"] > 0
  assert row["finetuned"] == 12.5 and all(0 <= row[k] <= 100 for k in ("noisy", "levels"))
  longer = dataclasses.replace(recipe, search=dataclasses.replace(recipe.search, steps=9))
  for changed, where in (
    (dataclasses.replace(recipe, seed=1), "start-seed1.*"),
    (longer, "search"),
  ):
    with pytest.raises(FileNotFoundError, match=f"{where}/.*, the last checkpoint of a finished"):
      assigned.assignment_row(changed, trial, folder, None, "valid")
  assert not list(folder.glob("start-seed1*"))


def test_a_search_is_repeated_from_the_same_float_network(compared, config):
  folder, wanted, _ = compared
  (trial,) = (t for t in wanted if t.method == "heterogeneous")
  recipe = trials.recipe_of(trials.configured(config, trial))
  before = {p: p.stat().st_mtime_ns for p in folder.glob("*/checkpoints/*/*/*")}
  rows = repeated.repeated_rows(recipe, trial, folder, 7)
  after = {p: p.stat().st_mtime_ns for p in folder.glob("*/checkpoints/*/*/*")}
  assert before.items() <= after.items() and len(after) > len(before)
  report = json.loads((folder / trial.name / "assignment.json").read_text())["layers"]
  assert len(rows) > 1
  for row in rows:
    assert row["mean"] == pytest.approx(report[row["layer"]]["learned_mean_bits"])
    assert row["spread"] > 0 and row["change"] > 0 and -1 <= row["correlation"] <= 1
  assert repeated.repeated_rows(recipe, trial, folder, 7) == rows
  found = {p: p.stat().st_mtime_ns for p in folder.glob("*/checkpoints/*/*/*")}
  assert found == after  # not trained again
  with pytest.raises(ValueError, match="seed must differ from the trial's, got 0"):
    repeated.repeated_rows(recipe, trial, folder, 0)
  with pytest.raises(ValueError, match="must learn bits per channel, got 'layerwise'"):
    repeated.repeated_rows(recipe, dataclasses.replace(trial, method="layerwise"), folder, 7)


def test_trials_share_a_float_network_unless_it_is_configured_otherwise(compared, config):
  folder, _, _ = compared
  assert len(list(folder.glob("start-seed0-*"))) == 1
  experiment = Experiment.create(trials.recipe_of(config), quiet=True)
  before = {p: p.stat().st_mtime_ns for p in folder.glob("start-*/checkpoints/*/*")}
  trials.shared_start(experiment, folder)
  levels = trials.Trial("random", options=(("model_config.palette", (2, 8)),), label="x")
  other = trials.recipe_of(trials.configured(config, levels))
  trials.shared_start(Experiment.create(other, quiet=True), folder)
  assert before == {p: p.stat().st_mtime_ns for p in folder.glob("start-*/checkpoints/*/*")}
  longer = trials.configured(
    config, trials.Trial("random", options=(("train.steps", 3),), label="x")
  )
  trials.shared_start(Experiment.create(trials.recipe_of(longer), quiet=True), folder)
  assert len(list(folder.glob("start-seed0-*"))) == 2


def test_a_trial_with_a_result_is_not_trained_again(compared, config, monkeypatch):
  folder, wanted, _ = compared
  monkeypatch.setattr(trials, "run_trial", lambda *_: pytest.fail("trained again"))
  assert trials.run_all(config, wanted, folder, folder / "results", ("valid",)) == []


def test_a_trial_that_fails_does_not_stop_the_others(config, tmp_path, monkeypatch):
  done = []

  def run(config, trial, *_):
    if trial.seed == 0:
      raise FloatingPointError("loss is nan")
    done.append(trial.seed)
    return {"accuracy": {}, "file_bytes": 1}

  monkeypatch.setattr(trials, "run_trial", run)
  wanted = [trials.Trial("uniform", seed) for seed in (0, 1)]
  assert trials.run_all(config, wanted, tmp_path, tmp_path, ()) == [
    "uniform-mean_bits_params-2-seed0"
  ]
  assert done == [1] and not (tmp_path / "uniform-mean_bits_params-2-seed0.json").exists()


def test_results_of_another_configuration_are_not_taken_for_this_one(compared, config, tmp_path):
  folder, wanted, _ = compared
  longer = config | {"finetune": config["finetune"] | {"steps": 3}}
  with pytest.raises(ValueError, match="was made with another configuration"):
    trials.run_all(longer, wanted, folder, folder / "results", ("valid",))
  # A float network has no search, and no budget.
  faster = config | {"search": config["search"] | {"learning_rate": 0.5}}
  assert trials.result(faster, trials.Trial(trials.FLOAT, limit=3.0), folder / "results")
  with pytest.raises(ValueError, match="another configuration.*search.optimizer.learning_rate"):
    trials.run_all(faster, wanted, folder, folder / "results", ("valid",))
  twice = [trials.Trial("uniform"), trials.Trial("uniform")]
  with pytest.raises(ValueError, match="trials must differ in name"):
    trials.run_all(config, twice, tmp_path, tmp_path, ("valid",))
  with pytest.raises(ValueError, match="options need a label"):
    trials.Trial("uniform", options=(("batch_size", 8),))


def test_other_splits_are_scored_without_training_anew(compared, config, monkeypatch):
  folder, wanted, _ = compared
  trial = next(t for t in wanted if t.method == "uniform")
  run = trials.run_trial
  path = folder / "results" / f"{trial.name}.json"
  before = json.loads(path.read_text())
  monkeypatch.setattr(trials, "run_trial", lambda *a: run(*a) | {"scored": True})
  assert trials.run_all(config, [trial], folder, folder / "results", ("valid", "test")) == []
  record = json.loads(path.read_text())
  (row,) = record["rows"]
  assert row["scored"] and set(row["accuracy"]) == {"valid", "test"}
  assert row["accuracy"]["valid"] == before["rows"][0]["accuracy"]["valid"]
  assert record["seconds"] > before["seconds"] and record["earlier"] == [before["provenance"]]
  # More than is asked for is enough.
  monkeypatch.setattr(trials, "run_trial", None)
  assert trials.run_all(config, [trial], folder, folder / "results", ("valid",)) == []


def test_options_change_the_configuration_of_one_trial(config):
  trial = trials.Trial(
    "heterogeneous", 3, options=(("finetune.steps", 7), ("batch_size", 8)), label="short"
  )
  changed = trials.configured(config, trial)
  assert (changed["finetune"]["steps"], changed["batch_size"], changed["seed"]) == (7, 8, 3)
  assert config["finetune"]["steps"] == 2
  deep = config | {"finetune": config["finetune"] | {"distillation": {"weight": 0.8}}}
  option = (("finetune.distillation.weight", 0.5),)
  assert trials.configured(deep, trials.Trial("uniform", options=option, label="half"))[
    "finetune"]["distillation"] == {"weight": 0.5}  # fmt: skip
  assert deep["finetune"]["distillation"] == {"weight": 0.8}
  assert trial.name == "heterogeneous-short-mean_bits_params-2-seed3"
  with pytest.raises(KeyError, match="finetun"):
    trials.configured(
      config, trials.Trial("uniform", options=(("finetun.steps", 7),), label="wrong")
    )


def test_bits_that_qwix_lacks_are_refused():
  with pytest.raises(
    ValueError, match=r"limit of a 'qwix' trial must be one of \(2, 4, 8\), got 2.5"
  ):
    trials.Trial(trials.QWIX, limit=2.5)


def test_a_machine_s_file_that_changed_is_another_configuration(config, tmp_path):
  machine = tmp_path / "machine.json"
  machine.write_text(load_target("bits_only").to_json())
  trial = trials.Trial("heterogeneous", quantity="latency_us", machine=str(machine))
  recipe = trials._recorded(trials.configured(config, trial))
  record = {"recipe": recipe, "rows": [{"name": trial.name}]}
  (tmp_path / f"{trial.name}.json").write_text(json.dumps(record))
  assert trials.result(config, trial, tmp_path) == {"name": trial.name}
  target = dataclasses.replace(load_target("bits_only"), cycles_per_op=7.0)
  machine.write_text(target.to_json())
  with pytest.raises(ValueError, match="was made with another configuration"):
    trials.result(config, trial, tmp_path)


def test_shards_are_a_partition():
  names = list("abcdefg")
  parts = [compare.shard(names, f"{i}/3") for i in range(3)]
  assert sorted(itertools.chain(*parts)) == names
  for text in ("3/3", "0", "a/b", "0/0", "-1/2"):
    with pytest.raises(ValueError, match="shard must be I/N"):
      compare.shard(names, text)


def test_unknown_methods_are_refused_and_uniform_is_the_nearest_level(config):
  experiment = Experiment.create(trials.recipe_of(config), quiet=True)
  with pytest.raises(ValueError, match=r"method must be one of \['heterogeneous', 'layerwise'"):
    methods.train("best", experiment, {})
  for budget, level in ((1.0, 1), (2.5, 2), (3.9, 4), (9.0, 4)):
    spending = experiment.with_limit(budget)
    found = methods.uniform_assignment(spending).bits["stage0_block0/conv1"]
    assert np.unique(found).tolist() == [level]


def test_the_command_prints_the_table_of_what_there_is(compared, tmp_path):
  folder, _, rows = compared
  path = tmp_path / "config.py"
  path.write_text(
    "from tests.shared import tiny_config\n"
    "def get_config():\n"
    "  config = tiny_config.get_config()\n"
    "  config.data = 'synthetic'\n"
    "  for phase in ('train', 'search', 'finetune'):\n"
    "    config[phase].steps, config[phase].warmup_steps = 2, 1\n"
    "  config.splits = ('valid',)\n"
    "  config.trials = (\n"
    "    {'method': 'heterogeneous', 'limit': 3.5}, {'method': 'heterogeneous', 'seed': 9}\n"
    "  )\n"
    "  return config\n"
  )
  command = [sys.executable, "-m", "experiments.compare", "--table", "--config", path]
  command += ["--workdir", folder]
  out = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
  *_, title, _, line = out.splitlines()
  assert "valid %" in title and "compression" in title
  assert line.startswith("heterogeneous-mean_bits_params-3.5-seed0")
  assert f"{rows['heterogeneous']['accuracy']['valid']:.2f}" in line
