"""The loop around the step: metrics, checkpoints, refusals, predictions."""

import json

import jax
import numpy as np
import pytest

from hetjax.learn import loop
from hetjax.learn.metrics import read_metrics
from hetjax.learn.step import initial_state
from tests.shared import tiny

_STEPS = {"train__steps": 5, "log_every": 2, "checkpoint_every": 3}


def _started(exp, poison=None):
  """A `start` for the float phase that counts its calls."""
  calls = []

  def start():
    calls.append(1)
    variables = tiny.start_variables(exp)
    if poison is not None:
      variables["params"]["head"]["bias"] = np.full(10, poison, np.float32)
    return variables

  return start, calls


def test_metrics_checkpoints_and_resuming(tmp_path):
  exp = tiny.experiment(str(tmp_path), **_STEPS)
  start, calls = _started(exp)
  state = exp.run.train(exp.recipe.train, start)
  assert int(state.step) == 5 and calls == [1]
  records = read_metrics(tmp_path / "metrics" / "float.jsonl")
  assert [r["step"] for r in records] == [2, 4, 5]
  assert all({"loss", "accuracy"} < r.keys() for r in records)
  folders = {p.name for p in (tmp_path / "checkpoints" / "float").iterdir() if p.name.isdigit()}
  assert folders == {"3", "5"}
  # Finished already: nothing is trained again, and the state is the same.
  again = exp.run.train(exp.recipe.train, start)
  jax.tree.map(np.testing.assert_array_equal, state.params, again.params)
  assert [r["step"] for r in read_metrics(tmp_path / "metrics" / "float.jsonl")] == [2, 4, 5]
  # Intervals may change, anything else may not.
  tiny.experiment(str(tmp_path), **_STEPS | {"log_every": 1}).run.train(exp.recipe.train, start)
  other = tiny.experiment(str(tmp_path), **_STEPS, finetune__learning_rate=0.5)
  with pytest.raises(ValueError, match=r"finetune.optimizer.learning_rate: saved 0.002, now 0.5"):
    other.run.train(other.recipe.train, start)


@pytest.mark.parametrize(("log_every", "at"), [(2, 2), (9, 3)])
def test_a_lost_loss_raises_and_is_never_saved(tmp_path, log_every, at):
  exp = tiny.experiment(str(tmp_path), **_STEPS | {"log_every": log_every})
  start, _ = _started(exp, poison=np.nan)
  with pytest.raises(FloatingPointError, match=f"loss of phase 'float' is nan at {at}"):
    exp.run.train(exp.recipe.train, start)
  folders = {p.name for p in (tmp_path / "checkpoints" / "float").iterdir()}
  assert folders == {"0"}


def test_the_callers_arrays_survive_the_step():
  exp = tiny.shared()
  variables = jax.tree.map(jax.numpy.asarray, tiny.start_variables(exp))
  kept = jax.tree.map(np.array, variables)
  state = initial_state(exp.recipe.train, variables, exp.run.specs)
  phase = exp.recipe.train
  trained = loop.run_phase(
    exp.run.model, exp.run.specs, phase, lambda: state, exp.run.batches, exp.run.loop, quiet=True
  )
  jax.tree.map(np.testing.assert_array_equal, variables, kept)
  assert not np.array_equal(trained.params["head"]["kernel"], kept["params"]["head"]["kernel"])


def test_intervals_must_be_positive():
  for field in ("log_every", "checkpoint_every"):
    with pytest.raises(ValueError, match="must be positive"):
      loop.LoopConfig(**{field: 0})


def test_phases_draw_different_noise():
  names = ("float", "search", "finetune", "uniform4")
  assert len({loop._phase_number(name) for name in names}) == len(names)


def test_predictions_do_not_depend_on_the_batch():
  exp = tiny.shared()
  variables, images = tiny.start_variables(exp), exp.dataset.inputs("test")[:257]
  logits = loop.logits(exp.run.model, variables, images, "float")
  readable = {k: variables[k] for k in ("params", "batch_stats")}
  np.testing.assert_allclose(logits, exp.run.model.apply(readable, images), atol=1e-5)
  np.testing.assert_array_equal(
    logits[:250], loop.logits(exp.run.model, variables, images[:250], "float")
  )
  whole = loop.predictions(logits)[:37]
  labels = whole.copy()
  labels[:8] += 1
  assert loop.accuracy(whole, labels) == pytest.approx(100 * 29 / 37)


def test_scores_count_every_label_alike():
  odds = np.array([[[3.0, 1.0], [1.0, 1.0]], [[1.0, 4.0], [1.0, 9.0]]])
  labels = np.array([[0, 0], [0, 1]])
  expected = -np.mean(np.log([3 / 4, 1 / 2, 1 / 5, 9 / 10]))
  got = loop.scores(np.log(odds).astype(np.float32), labels)
  assert got["accuracy"] == 75.0 and got["loss"] == pytest.approx(expected, rel=1e-6)


def test_batch_stats_become_those_of_the_mode():
  exp = tiny.shared()
  variables = {k: v for k, v in tiny.start_variables(exp).items() if k != "precision"}
  new = loop.reestimate_batch_stats(exp.run.model, variables, exp.run.batches, "float", steps=60)
  x = np.concatenate([exp.run.batches.batch(i)["input"] for i in range(40)])
  mean = np.asarray(new["batch_stats"]["stem_norm"]["mean"])
  layer = variables["params"]["stem_conv"]
  y = jax.lax.conv_general_dilated(
    x, layer["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  spread = np.std(y, (0, 1, 2))
  assert np.all(np.abs(mean - np.mean(y, (0, 1, 2))) < 0.25 * spread)
  assert new["params"] is variables["params"]
  without = {"params": variables["params"]}
  assert loop.reestimate_batch_stats(exp.run.model, without, exp.run.batches, "float", 1) == without


def test_settings_are_json():
  assert json.loads(json.dumps(dict(tiny.shared().run.settings)))["data"] == "synthetic"
