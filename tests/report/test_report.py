"""Tables, and JSON with provenance."""

import json
import os
import sys

import pytest

from hetjax.report import Column, bar, provenance, render, write_json


def test_a_table_aligns_its_columns():
  columns = (
    Column("name", "network"),
    Column("size", "bytes"),
    Column("share", "share", lambda v: f"{v:.1f}"),
  )
  rows = [{"name": "a", "size": 12345, "share": 0.25}, {"name": "longer name", "size": None}]
  assert render(rows, columns).splitlines() == [
    "network      bytes  share",
    "-----------  -----  -----",
    "a            12345    0.2",
    "longer name      -      -",
  ]
  assert render([], columns).splitlines()[1] == "-------  -----  -----"


def test_bars():
  assert [len(bar(share, 10)) for share in (-1, 0, 0.24, 0.5, 1, 2)] == [0, 0, 2, 5, 10, 10]


def test_provenance_says_how_to_do_it_again(monkeypatch):
  monkeypatch.setattr(sys, "orig_argv", ["/bin/python", "-m", "experiments.demo", "--json", "a b"])
  about = provenance(3)
  assert about["command"] == "python -m experiments.demo --json 'a b'"
  assert about["seed"] == 3
  assert {"python", "hetjax", "jax", "jaxlib", "numpy"} <= about["versions"].keys()
  assert about["versions"]["python"] == sys.version.split()[0]
  assert about["machine"].keys() == {"system", "architecture", "processor", "cores"}
  assert about["time"].endswith("+00:00")
  commit = about["commit"].removesuffix("+changes")
  assert commit == "unknown" or len(commit) == 40


def test_a_result_file_holds_rows_provenance_and_more(tmp_path):
  path = tmp_path / "new" / "folder" / "results.json"
  write_json(path, [{"name": "a", "value": 1.5}], seed=4, config={"x": [1, 2]})
  written = json.loads(path.read_text())
  assert written["rows"] == [{"name": "a", "value": 1.5}]
  assert written["config"] == {"x": [1, 2]}
  assert written["provenance"]["seed"] == 4
  assert [p.name for p in path.parent.iterdir()] == ["results.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / "results.json"
  write_json(path, [{"a": 1}])
  old = path.read_bytes()
  with pytest.raises(ValueError, match="Out of range float"):
    write_json(path, [{"a": float("nan")}])
  with pytest.raises(TypeError):
    write_json(path, [{"a": object()}])

  def broken(descriptor):
    raise OSError("disk full")

  monkeypatch.setattr(os, "fsync", broken)
  with pytest.raises(OSError, match="disk full"):
    write_json(path, [{"a": 2}])
  assert path.read_bytes() == old
  assert [p.name for p in tmp_path.iterdir()] == ["results.json"]
