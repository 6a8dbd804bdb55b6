"""Checkpoints: bit for bit, what a kill leaves behind, damage, changed configurations."""

import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax.learn.checkpoint import Checkpointer, differences

CONFIG = {"seed": 0, "optimizer": {"name": "adam", "rate": 0.001}, "widths": (8, 16)}


class _Moments(NamedTuple):
  count: jax.Array
  mu: dict


class _Empty(NamedTuple):
  pass


def _state(seed):
  rng = np.random.default_rng(seed)
  kernel = rng.standard_normal((3, 3, 2, 4)).astype(np.float32)
  kernel[0, 0, 0] = [np.nan, -0.0, np.inf, 1e-42]  # bits, not values, must survive
  return {
    "params": {"block/conv": {"kernel": jnp.asarray(kernel), "s": jnp.ones(2, jnp.bfloat16)}},
    "opt": (_Moments(jnp.int32(seed), {"w": jnp.asarray(kernel[0])}), _Empty(), None),
    "assignment": np.arange(5, dtype=np.int8),
    "wide": np.array([rng.random()]),
    "key": jax.random.key_data(jax.random.key(seed)),
    "none": jnp.zeros((0, 3)),
  }


def _assert_same(a, b):
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    assert isinstance(x, jax.Array) == isinstance(y, jax.Array)
    assert (x.dtype, x.shape) == (y.dtype, y.shape)
    assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def _fill(directory, steps=(10, 20, 30)):
  with Checkpointer(directory, CONFIG) as checkpoints:
    for step in steps:
      checkpoints.save(step, _state(step), {"phase": "search", "at": step})


def _biggest_file(folder):
  return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_newest_comes_back_bit_for_bit_and_two_are_kept(tmp_path):
  _fill(tmp_path / "c")
  with Checkpointer(tmp_path / "c", CONFIG) as checkpoints:
    assert checkpoints.steps() == [20, 30]
    restored = checkpoints.restore_latest(_state(0))
  assert (restored.step, restored.meta) == (30, {"phase": "search", "at": 30})
  _assert_same(restored.state, _state(30))


def test_nothing_saved_restores_nothing(tmp_path):
  with Checkpointer(tmp_path, CONFIG) as checkpoints:
    assert checkpoints.restore_latest(_state(0)) is None


@pytest.mark.parametrize("state", [{}, {"a": {}}, jnp.arange(3), {"x": np.float32(2)}])
def test_small_states(tmp_path, state):
  with Checkpointer(tmp_path, CONFIG) as checkpoints:
    checkpoints.save(0, state)
    restored = checkpoints.restore_latest(state)
  assert restored.meta is None
  assert jax.tree.structure(restored.state) == jax.tree.structure(state)
  for x, y in zip(jax.tree.leaves(restored.state), jax.tree.leaves(state), strict=True):
    np.testing.assert_array_equal(x, y)


def _truncate(folder):
  os.truncate(_biggest_file(folder), 10)


def _flip(folder):
  path = _biggest_file(folder)
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def _lose_state(folder):
  shutil.rmtree(folder / "state")


def _lose_record(folder):
  shutil.rmtree(folder / "record")


def _garble_record(folder):
  _biggest_file(folder / "record").write_text("{")


def _empty(folder):
  shutil.rmtree(folder)
  folder.mkdir()


DAMAGES = [_truncate, _flip, _lose_state, _lose_record, _garble_record, _empty]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda f: f.__name__.strip("_"))
def test_a_damaged_newest_falls_back_says_so_and_may_be_saved_again(tmp_path, caplog, damage):
  _fill(tmp_path)
  damage(tmp_path / "30")
  with Checkpointer(tmp_path, CONFIG) as checkpoints, caplog.at_level(logging.WARNING):
    restored = checkpoints.restore_latest(_state(0))
    assert restored.step == 20
    _assert_same(restored.state, _state(20))
    warnings = [r.getMessage() for r in caplog.records if r.name == "hetjax.learn.checkpoint"]
    assert "step 30" in warnings[0]
    assert "damaged-30" in warnings[1]
    checkpoints.save(30, _state(31))
    assert checkpoints.steps() == [20, 30]
    _assert_same(checkpoints.restore_latest(_state(0)).state, _state(31))
  assert (tmp_path / "damaged-30").is_dir()


def test_all_damaged_is_an_error_not_a_fresh_start(tmp_path):
  _fill(tmp_path)
  for step in (20, 30):
    _truncate(tmp_path / str(step))
  with (
    Checkpointer(tmp_path, CONFIG) as checkpoints,
    pytest.raises(RuntimeError, match=r"none of the checkpoints \[20, 30\]"),
  ):
    checkpoints.restore_latest(_state(0))
  assert (tmp_path / "30").is_dir()


def test_a_kill_while_saving_leaves_the_older_one(tmp_path):
  """What orbax has written when it is killed carries a temporary name and is passed over."""
  code = textwrap.dedent("""
    import os, signal, sys
    import numpy as np
    from hetjax.learn.checkpoint import Checkpointer
    checkpoints = Checkpointer(sys.argv[1], {"seed": 1})
    checkpoints.save(1, {"w": np.full(1000, 1.0)})
    rename = os.rename
    def die(source, target, *rest, **more):
      os.kill(os.getpid(), signal.SIGKILL)
    os.rename = os.replace = die
    checkpoints.save(2, {"w": np.full(1000, 2.0)})
  """)
  command = [sys.executable, "-c", code, str(tmp_path)]
  run = subprocess.run(command, capture_output=True, timeout=120)
  assert run.returncode == -signal.SIGKILL, run.stderr.decode()[-2000:]
  assert any("tmp" in p.name and p.name.startswith("2") for p in tmp_path.iterdir())
  with Checkpointer(tmp_path, {"seed": 1}) as checkpoints:
    restored = checkpoints.restore_latest({"w": np.zeros(1000)})
    assert restored.step == 1
    assert (restored.state["w"] == 1.0).all()
    checkpoints.save(2, {"w": np.full(1000, 3.0)})
    assert (checkpoints.restore_latest({"w": np.zeros(1000)}).state["w"] == 3.0).all()


def test_another_configuration_is_refused_with_the_fields(tmp_path):
  _fill(tmp_path)
  changed = {"seed": 0, "optimizer": {"name": "sgd", "rate": 0.001}, "widths": [8, 32], "new": 1}
  with Checkpointer(tmp_path, changed) as checkpoints, pytest.raises(ValueError) as error:
    checkpoints.restore_latest(_state(0))
  message = str(error.value)
  assert "optimizer.name: saved 'adam', now 'sgd'" in message
  assert "widths: saved [8, 16], now [8, 32]" in message
  assert "new: saved '(absent)', now 1" in message
  assert "seed" not in message
  assert "rate" not in message


def test_another_structure_is_refused_with_the_leaves(tmp_path):
  _fill(tmp_path)
  other = _state(0)
  other["wide"] = np.zeros((2,), np.float32)
  with (
    Checkpointer(tmp_path, CONFIG) as checkpoints,
    pytest.raises(ValueError, match=r"wide: saved 'float64\[1\]', now 'float32\[2\]'"),
  ):
    checkpoints.restore_latest(other)


def test_what_cannot_be_saved_is_refused(tmp_path):
  with Checkpointer(tmp_path, CONFIG) as checkpoints:
    with pytest.raises(ValueError, match="leaf 'key' is a typed key"):
      checkpoints.save(1, {"key": jax.random.key(0)})
    with pytest.raises(ValueError, match="leaf 'x' must be an array"):
      checkpoints.save(1, {"x": object()})
    with pytest.raises(ValueError, match="meta must hold JSON"):
      checkpoints.save(1, {}, meta={"x": object()})
    checkpoints.save(5, {"x": np.zeros(1)})
    with pytest.raises(ValueError, match="above the newest checkpoint's 5, got 5"):
      checkpoints.save(5, {"x": np.zeros(1)})
  with pytest.raises(ValueError, match="keep must be"):
    Checkpointer(tmp_path, CONFIG, keep=0)


def test_a_field_of_no_value_is_as_one_that_is_not_there():
  assert differences({"a": 1}, {"a": 1, "b": None, "c": {"d": None}}) == [
    "c: saved '(absent)', now {'d': None}"
  ]
  assert (
    differences({"a": {"b": None}}, {"a": {}}) == differences({"a": {}}, {"a": {"b": None}}) == []
  )
  assert differences({"a": None}, {"a": 0}) == ["a: saved None, now 0"]
  # A model's own default need not be None.
  assert differences({"model_config": {}}, {"model_config": {"pinned_bits": None}}) == [
    "model_config.pinned_bits: saved '(absent)', now None"
  ]


def test_differences_tell_types_apart():
  assert differences({"a": 1}, {"a": 1.0}) == []
  assert differences({"a": 1}, {"a": True}) == ["a: saved 1, now True"]
  assert differences({"a": {"b": 1}}, {"a": 2}) == ["a: saved {'b': 1}, now 2"]
