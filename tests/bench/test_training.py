"""Steps of training as a benchmark."""

import jax
import numpy as np
import pytest

from hetjax.bench import suite, training

TINY = training.Workload(
  "tiny", "resnet", {"stage_sizes": (1,), "widths": (4,)}, (4, 8, 8, 1)
)  # fmt: skip


def test_steps_train_and_have_rows_relative_to_float(monkeypatch):
  calls, known, macs = training.steps(TINY)
  # Two 3x3 convolutions of 4 channels, the stem's of one, and the classifier.
  assert macs == 4 * (2 * 9 * 16 * 64 + 9 * 4 * 64 + 40)
  for phase, call in calls.items():
    before = jax.device_get(call().params["head"]["kernel"])
    state = call()
    assert int(state.step) == 2, phase
    assert not np.array_equal(before, state.params["head"]["kernel"]), phase
  monkeypatch.setattr(training, "steps", lambda _: (calls, known, macs))
  rows = training.measure(1, seconds=0.0, specs=[TINY])
  assert [row["phase"] for row in rows] == ["float", "search", "finetune"]
  assert rows[0]["over_float"] == 1.0
  for row in rows:
    assert row["milliseconds"] == pytest.approx(row["over_float"] * rows[0]["milliseconds"])
    assert row["megabytes"] > 0 and row["compile_seconds"] > 0 and row["gmacs"] > 0
    assert {c.key for c in training.COLUMNS} <= set(row)


def test_the_command_line_chooses_among_networks():
  found = suite.arguments("training", {"only": ["vit"], "seconds": 1.5})
  assert found == {"seconds": 1.5, "specs": [training.WORKLOADS[-1]]}
  with pytest.raises(ValueError, match="only must be parts of"):
    suite.arguments("training", {"only": ["alexnet"]})
