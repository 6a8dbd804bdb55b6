"""The metrics file through kills and resumes, and both forms of progress."""

import io
import json
import logging

import jax.numpy as jnp
import numpy as np
import pytest

from hetjax.learn.metrics import MetricsWriter, Progress, read_metrics


class _Terminal(io.StringIO):
  def isatty(self):
    return True


def test_lines_are_json_and_on_disk_at_once(tmp_path):
  path = tmp_path / "run" / "metrics.jsonl"
  with MetricsWriter(path) as writer:
    writer.write(np.int64(3), {"loss": jnp.float32(0.5), "n": np.int32(2), "phase": "search"})
    assert json.loads(path.read_text()) == {"step": 3, "loss": 0.5, "n": 2, "phase": "search"}
    writer.write(4, {"loss": float("nan"), "low": -np.inf, "by": {"a": [1, 2.5]}, "ok": True})
  record = json.loads(path.read_text().splitlines()[1], parse_constant=pytest.fail)
  assert record == {"step": 4, "loss": "nan", "low": "-inf", "by": {"a": [1, 2.5]}, "ok": True}
  with MetricsWriter(path) as other, pytest.raises(ValueError, match="key 'step'"):
    other.write(1, {"step": 2})
  with pytest.raises(ValueError, match="closed"):
    writer.write(5, {})


def test_resume_leaves_the_file_of_an_undisturbed_run(tmp_path, caplog):
  undisturbed, killed = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
  with MetricsWriter(undisturbed) as writer:
    for step in range(6):
      writer.write(step, {"loss": 1 / (step + 3)})
  with MetricsWriter(killed) as writer:
    for step in range(5):
      writer.write(step, {"loss": 1 / (step + 3)})
  with open(killed, "a") as file:
    file.write('{"step": 5, "lo')  # killed in the middle of a write
  with caplog.at_level(logging.WARNING), MetricsWriter(killed, resume_step=3) as writer:
    for step in range(3, 6):
      writer.write(step, {"loss": 1 / (step + 3)})
  assert killed.read_bytes() == undisturbed.read_bytes()
  assert "line 6 is not a metrics record" in caplog.text
  assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl"]
  MetricsWriter(killed).close()
  assert read_metrics(killed) == []


def test_reading_skips_what_is_no_record(tmp_path):
  path = tmp_path / "m.jsonl"
  path.write_bytes(b'{"step": 1}\n[]\n{"step": true}\n\xff\n{"loss": 1}\n{"step": 2}\n')
  assert [r["step"] for r in read_metrics(path)] == [1, 2]


def test_a_pipe_gets_plain_lines_now_and_then():
  now = [0.0]
  stream = io.StringIO()
  with Progress(10, "search", start=4, stream=stream, every_seconds=5, clock=lambda: now[0]) as bar:
    for _ in range(6):
      now[0] += 2
      bar.update(loss=jnp.float32(0.25), phase="x")
  assert stream.getvalue().splitlines() == [
    "search 7/10 00:06 eta 00:06 loss=0.25 phase=x",
    "search 10/10 00:12 loss=0.25 phase=x",
  ]


def test_a_terminal_gets_a_bar():
  stream = _Terminal()
  with Progress(4, "search", stream=stream) as bar:
    bar.update(4)
  assert "search: 100%" in stream.getvalue()
  assert "4/4" in stream.getvalue()
  assert "\r" in stream.getvalue()
