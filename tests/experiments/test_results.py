"""Committed results are those of the configurations that ship, and keep what they promise."""

import importlib
import json
from pathlib import Path

import pytest

from experiments import points, trials
from experiments.trial import FLOAT, QWIX

FOLDERS = sorted((Path(__file__).parents[2] / "experiments" / "results").iterdir())


def _records(folder):
  paths = (p for p in sorted(folder.glob("*.json")) if p.name not in points.NOT_TRIALS)
  return {path.stem: json.loads(path.read_text()) for path in paths}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_results_are_of_their_configuration(folder):
  config = importlib.import_module(f"experiments.configs.{folder.name}").get_config().to_dict()
  del config["splits"]
  wanted = {t.name: t for t in (trials.Trial(**dict(t)) for t in config.pop("trials"))}
  records = _records(folder)
  assert records and set(records) <= set(wanted)
  for name, record in records.items():
    assert trials.result(config, wanted[name], folder) == record["rows"][0]
    assert record["provenance"]["commit"] and record["seconds"] > 0


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda f: f.name)
def test_packed_files_keep_budgets_and_classify_as_they_trained(folder):
  for name, record in _records(folder).items():
    (row,) = record["rows"]
    if row["method"] in (FLOAT, QWIX):
      continue
    assert row["disagreements"] == 0, name
    budget = row["budget"]
    if row["method"] != "uniform":
      spent = {"mean_bits_params": "mean_bits", "latency_us": None}
      if key := spent.get(budget["quantity"], budget["quantity"]):
        assert row[key] <= budget["limit"], name


def test_seeds_of_a_comparison_take_the_same_epochs():
  for folder in FOLDERS:
    assert len({r["rows"][0]["epochs"] for r in _records(folder).values()}) == 1, folder
