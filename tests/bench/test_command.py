"""The command: processes, files, pages, plots."""

import json
import os

import pytest

from hetjax.bench import command, markdown, plots, worker
from hetjax.cli.main import main

ROW = {
  "layer": "tiny",
  "threads": 1,
  "macs": 1000,
  "engine": "hetjax",
  "mix": "1-bit",
  "microseconds": 2.0,
  "low": 1.5,
  "high": 2.5,
  "gmacs": 0.5,
  "over_float32": 3.0,
}
GONE = {"layer": "tiny", "threads": 1, "engine": "gone", "mix": "32-bit", "missing": "not there"}
ABOUT = {
  "hetjax": {"isa": "scalar", "compiler": "cc 1"},
  "peers": {"a": "1.0", "b": "1.0", "gone": "missing: not there"},
  "load_before": 0.25,
}


@pytest.fixture
def measured(monkeypatch):
  """The measuring itself made up; what was asked for."""
  asked = []

  def measure(*args):
    asked.append(args)
    return {"rows": [ROW, GONE], "about": ABOUT, "target": "{}"}

  monkeypatch.setattr(command, "measure", measure)
  return asked


def test_everything_is_printed_and_written(measured, tmp_path, capsys):
  page = tmp_path / "page.md"
  page.write_text("before\n<!-- bench:layers -->\nold\n<!-- /bench:layers -->\nafter\n")
  arguments = f"bench layers --threads 1,2 --only 3x3 --markdown {page}".split()
  assert main([*arguments, "--peers", "", "--json", str(tmp_path / "out.json")]) == 0
  options = {"seconds": None, "only": ["3x3"], "mixes": None, "peers": []}
  assert measured == [("layers", [1, 2], options, None)]
  printed = capsys.readouterr().out
  for text in ("instruction set scalar, built with cc 1", "a, b 1.0", "3.00x", "missing: gone"):
    assert text in printed
  assert "over int8" not in printed  # no row fills it
  written = json.loads((tmp_path / "out.json").read_text())
  assert written["rows"] == [ROW, GONE] and written["about"] == ABOUT
  assert written["benchmark"] == "layers" and "commit" in written["provenance"]
  text = page.read_text()
  assert text.startswith("before\n<!-- bench:layers -->\n```text\n") and "old" not in text
  assert text.endswith("```\n<!-- /bench:layers -->\nafter\n") and "3.00x" in text


@pytest.mark.parametrize(
  ("line", "benchmark"),
  [("layers --sweep", "sweep"), ("networks --profile", "profile"), ("limits", "limits")],
)
def test_variants_are_benchmarks_of_their_own(measured, line, benchmark):
  assert main(["bench", *line.split()]) == 0
  assert measured[0][0] == benchmark


def test_targets_are_written(measured, tmp_path):
  path = tmp_path / "mine.json"
  assert main(["bench", "calibrate", "--out", str(path)]) == 0
  assert path.read_text() == "{}"
  assert measured[0][1] == [1] and measured[0][2]["name"] == "mine"


@pytest.mark.parametrize(
  ("line", "message"),
  [
    ("layers --threads 9999", "threads must be 1 to"),
    ("layers --only nothing", "only must be parts of"),
    ("layers --markdown {folder}/none.md", "none.md"),
    ("limits --plot {folder}/a.svg", "plot must be of one of"),
    ("calibrate --threads 1,2 --out {folder}/a.json", "threads must be one number"),
  ],
)
def test_wrong_options_are_found_before_measuring(line, message, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(plots, "require", lambda: None)
  assert main(["bench", *line.format(folder=tmp_path).split()]) == 1
  assert message in capsys.readouterr().err


def test_pages_without_marks_are_refused(tmp_path):
  page = tmp_path / "page.md"
  page.write_text("<!-- /bench:x -->\n<!-- bench:x -->\n")
  with pytest.raises(ValueError, match="must have the marks <!-- bench:x -->"):
    markdown.replace(page, "bench:x", "text")


def test_plots_need_matplotlib(measured, monkeypatch, capsys):
  monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
  assert main(["bench", "layers", "--plot", "a.svg"]) == 1
  assert "plots need matplotlib: install the extra 'peers'" in capsys.readouterr().err
  assert not measured


def test_processes_are_held_to_their_threads():
  values = worker.environment(1)
  assert values["OMP_NUM_THREADS"] == values["NPROC"] == "1"
  assert "HETJAX_CPU_ISA" not in values
  assert worker.environment(1, "avx2")["HETJAX_CPU_ISA"] == "avx2"
  with pytest.raises(ValueError, match="isa must be None or 'avx2', got 'neon'"):
    worker.environment(1, "neon")
  with pytest.raises(ValueError, match=f"threads must be 1 to {len(os.sched_getaffinity(0))}"):
    worker.environment(0)


def test_a_real_process_measures():
  options = {"only": ["3x3 7x7"], "mixes": ["1-bit"], "peers": [], "seconds": 0.01}
  answer = command.measure("layers", [1], options)
  (row,) = answer["rows"]
  assert row["engine"] == "hetjax" and row["gmacs"] > 0
  assert set(answer["about"]) == {"hetjax", "peers", "load_before"}


def test_a_process_that_fails_says_why():
  options = {"only": ["3x3 7x7"], "mixes": ["1-bit"], "peers": [], "seconds": "long"}
  with pytest.raises(RuntimeError, match="measuring with 1 threads failed: TypeError"):
    command.measure("layers", [1], options)
