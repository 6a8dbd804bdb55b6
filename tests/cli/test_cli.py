"""The command line: what it prints is what it writes, and errors are one line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hetjax import models, runtime, xla_cpu
from hetjax.bench import Timing
from hetjax.cli import main as cli
from hetjax.cli import run as run_command
from hetjax.core.precision import mean_bits
from hetjax.data import load_dataset
from hetjax.nn.packing import artifact_of
from hetjax.ops import dispatch
from hetjax.pack import float32_file_bytes, write_artifact
from tests.shared.nets import quantized_variables

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
  """A packed network for the synthetic images."""
  dataset = load_dataset("synthetic")
  model = models.create("resnet", stage_sizes=(1,), widths=(6,))
  images = dataset.normalize(dataset.train.images[:32])
  variables, specs = quantized_variables(model, images)
  artifact = artifact_of("resnet", models.registry.config_of(model), variables, specs)
  target = tmp_path_factory.mktemp("cli") / "network.safetensors"
  write_artifact(target, artifact)
  return target


def _table(text, title):
  """Cells of the printed table whose heading starts with `title`, by columns of two spaces."""
  lines = text.splitlines()
  start = next(i for i, line in enumerate(lines) if line.startswith(title))
  end = next((i for i in range(start, len(lines)) if not lines[i]), len(lines))
  return [re.split(r" {2,}", line.strip()) for line in lines[start + 2 : end]]


def test_inspect(path, tmp_path, capsys):
  target = tmp_path / "inspect.json"
  assert cli.main(["inspect", str(path), "--json", str(target)]) == 0
  text, error = capsys.readouterr()
  assert error == ""
  written = json.loads(target.read_text())
  artifact = runtime.load(path, (8, 8, 1)).artifact
  table = _table(text, "layer")
  present = [h["level"] for h in written["levels"]]
  for cells, row in zip(table, written["rows"], strict=True):
    counts = artifact.assignment.counts(row["layer"])
    assert cells == [
      row["layer"],
      row["kernel"],
      *(str(row[f"channels_{p}bit"]) for p in present),
      f"{row['mean_bits']:.2f}",
      str(row["code_bytes"]),
      str(row["float32_bytes"]),
    ]
    assert {p: row[f"channels_{p}bit"] for p in counts} == counts
  assert [r["layer"] for r in written["rows"]] == list(artifact.layers)
  assert sum(h["weights"] for h in written["levels"]) == sum(
    s.weights for s in artifact.specs.values()
  )
  assert sum(h["channel_share"] for h in written["levels"]) == pytest.approx(1)
  size = os.path.getsize(path)
  assert written["file_bytes"] == sum(written["sizes"].values()) == size
  assert written["compression"] == float32_file_bytes(artifact) / size
  assert f"compression {written['compression']:.2f}x" in text and f"file {size} bytes" in text
  expected = float(mean_bits(artifact.assignment.bits, artifact.specs))
  assert written["mean_bits_params"] == pytest.approx(expected)
  assert written["provenance"]["versions"]["jax"]


@pytest.mark.parametrize("implementation", [None, "reference"])
def test_run(path, tmp_path, capsys, monkeypatch, implementation):
  timed = {}

  def quick(functions):
    timed.update(functions)
    return {name: Timing(123e-6, 1e-6, 2e-4, 9) for name in functions}

  monkeypatch.setattr(run_command, "interleaved", quick)
  target = tmp_path / "run.json"
  arguments = ["run", str(path), "--data", "synthetic", "--json", str(target)]
  if implementation:
    arguments += ["--implementation", implementation]
  assert cli.main(arguments) == 0
  text, error = capsys.readouterr()
  assert error == ""
  (row,) = json.loads(target.read_text())["rows"]
  dataset = load_dataset("synthetic")
  network = runtime.load(path, dataset.input_shape)
  logits = network(dataset.normalize(dataset.test.images))
  right = float(np.mean(np.argmax(logits, -1) == dataset.test.labels))
  assert row == {
    "name": "network.safetensors",
    "data": "synthetic",
    "implementation": dispatch.resolve(implementation),
    "inputs": len(dataset.test),
    "accuracy": pytest.approx(100 * right, abs=0.2),
    "latency_us": pytest.approx(123),
    "file_bytes": os.path.getsize(path),
  }
  assert _table(text, "network") == [
    [row["name"], "synthetic", row["implementation"], "1024", f"{row['accuracy']:.2f}", "123",
     str(row["file_bytes"])]
  ]  # fmt: skip
  assert timed["packed"]().shape == (1, 10)


def test_doctor(tmp_path, capsys):
  target = tmp_path / "doctor.json"
  assert cli.main(["doctor", "--json", str(target)]) == 0
  text, _ = capsys.readouterr()
  rows = json.loads(target.read_text())["rows"]
  printed = {cells[0]: cells[1:] for cells in _table(text, "what")}
  assert list(printed) == [row["what"] for row in rows]
  for row in rows:
    assert printed[row["what"]][0] == ("yes" if row["runs"] else "no")
    assert " ".join(printed[row["what"]][1:]) == re.sub(" +", " ", row["detail"])
  by_name = {row["what"]: row for row in rows}
  assert by_name["reference"]["runs"] and by_name["data synthetic"]["runs"]
  for name, reason in dispatch.implementations().items():
    assert by_name[name]["runs"] == (not reason)


def test_errors_are_one_line_and_status_1(path, tmp_path, capsys):
  garbage, cut = tmp_path / "garbage", tmp_path / "cut"
  garbage.write_bytes(b"not a network")
  cut.write_bytes(path.read_bytes()[:-1])
  for arguments, match in (
    (["inspect", str(garbage)], "inspect: "),
    (["inspect", str(cut)], "inspect: "),
    (["inspect", str(tmp_path)], "Is a directory"),
    (["inspect", str(tmp_path / "none")], "No such file"),
    (["run", str(garbage), "--data", "digits"], "run: "),
    (["run", str(path), "--data", "mnist"], "dataset name must be one of"),
    (["inspect", str(path), "--json", str(garbage / "x.json")], "inspect: "),
  ):
    assert cli.main(arguments) == 1, arguments
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("hetjax ") and match in error, error


def test_usage_errors_exit_with_2(capsys):
  for arguments in (
    [],
    ["pack"],
    ["run", "x"],
    ["run", "x", "--data", "d", "--implementation", "q"],
  ):
    with pytest.raises(SystemExit) as stopped:
      cli.main(arguments)
    assert stopped.value.code == 2
  assert "usage" in capsys.readouterr().err


def _hetjax(*arguments, **environment):
  command = [sys.executable, "-m", "hetjax", *map(str, arguments)]
  env = {**os.environ, **environment}
  return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_the_module_is_runnable(tmp_path):
  done = _hetjax("inspect", tmp_path / "none")
  assert done.returncode == 1 and done.stdout == ""
  assert done.stderr.startswith("hetjax inspect: ") and done.stderr.count("\n") == 1


@pytest.mark.skipif(not xla_cpu.available()[0], reason="the CPU engine is not built")
def test_a_wrong_instruction_set_is_told(path):
  doctor = _hetjax("doctor", HETJAX_CPU_ISA="sse9")
  assert doctor.returncode == 0, doctor.stderr
  (line,) = [line for line in doctor.stdout.splitlines() if line.startswith("xla_cpu  ")]
  assert re.match("xla_cpu +no +.*sse9", line)
  done = _hetjax("run", path, "--data", "synthetic", HETJAX_CPU_ISA="sse9")
  assert done.returncode == 1 and done.stdout == ""
  assert "sse9" in done.stderr and done.stderr.count("\n") == 1
