"""A run killed again and again ends bit for bit where an undisturbed one does."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp

from hetjax.learn.metrics import read_metrics
from tests.shared import tiny_config

ROOT = Path(__file__).parents[2]
PHASES = {"float": "train", "search": "search", "finetune": "finetune"}
_TIMEOUT = 300


def _start(workdir):
  command = [sys.executable, "-m", "experiments.train"]
  command += ["--config", "tests/shared/tiny_config.py", "--workdir", str(workdir)]
  command += ["--config.search.precision_rate=0.2", "--config.checkpoint_every=3"]
  log = open(workdir.with_suffix(".log"), "ab")  # noqa: SIM115 - closed with the process
  return subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=os.environ), log


def _finish(workdir):
  process, log = _start(workdir)
  with log:
    assert process.wait(_TIMEOUT) == 0, workdir.with_suffix(".log").read_text()


def _steps_logged(workdir, phase):
  path = workdir / "metrics" / f"{phase}.jsonl"
  return len(path.read_bytes().splitlines()) if path.exists() else 0


def _kill_when(workdir, phase, lines, delay):
  """Starts the run and kills it `delay` seconds after `phase` has logged `lines` times."""
  process, log = _start(workdir)
  deadline = time.monotonic() + _TIMEOUT
  with log:
    while _steps_logged(workdir, phase) < lines:
      assert process.poll() is None, workdir.with_suffix(".log").read_text()
      assert time.monotonic() < deadline
      time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    assert process.wait(_TIMEOUT) == -signal.SIGKILL


def _final_state(workdir, phase):
  """Digest of the arrays, and their signature, of a phase's last checkpoint."""
  config = tiny_config.get_config()
  folder = workdir / "checkpoints" / phase / str(config[PHASES[phase]].steps)
  record = next(path for path in (folder / "record").iterdir() if path.name == "metadata")
  return json.loads(record.read_text())


def test_three_kills_leave_no_trace(tmp_path):
  rng = random.Random(20)
  killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"
  logged = tiny_config.get_config().train.steps // tiny_config.get_config().log_every
  for phase in PHASES:
    # Anywhere between the first metrics and the last but one, saving included.
    _kill_when(killed, phase, rng.randrange(1, logged - 1), rng.uniform(0, 0.05))
    assert not (killed / "results.json").exists()
  _finish(killed)
  _finish(undisturbed)
  for phase in PHASES:
    ours, theirs = _final_state(killed, phase), _final_state(undisturbed, phase)
    assert ours["sha256"] == theirs["sha256"] and ours["leaves"] == theirs["leaves"], phase
    names = [w / "metrics" / f"{phase}.jsonl" for w in (killed, undisturbed)]
    assert read_metrics(names[0]) == read_metrics(names[1])
    assert len(read_metrics(names[0])) == logged
  first, second = (w / "heterogeneous.safetensors" for w in (killed, undisturbed))
  assert first.read_bytes() == second.read_bytes()
  rows = [json.loads((w / "results.json").read_text())["rows"] for w in (killed, undisturbed)]
  assert [row["name"] for row in rows[1]] == ["float32", "heterogeneous"]
  assert rows[0][1]["accuracy"] == rows[1][1]["accuracy"] and rows[0][1]["disagreements"] == 0
  _assert_arrays_equal(killed, undisturbed)
  assert "checkpoint.py" not in undisturbed.with_suffix(".log").read_text()  # orbax keeps quiet


def _assert_arrays_equal(*workdirs):
  """The arrays themselves, apart from their digests."""
  steps = tiny_config.get_config().finetune.steps
  found = []
  for workdir in workdirs:
    with ocp.StandardCheckpointer() as reader:
      found.append(reader.restore(workdir / "checkpoints" / "finetune" / str(steps) / "state"))
  assert found[0].keys() == found[1].keys() and len(found[0]) > 20
  for name in found[0]:
    np.testing.assert_array_equal(found[0][name], found[1][name], err_msg=name)
