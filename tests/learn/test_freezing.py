"""Channels come to rest beside levels, the nearest first, and stay there in their order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax.core import Palette
from hetjax.core.layers import LayerSpec
from hetjax.core.precision import bits_of_s, s_of_bits
from hetjax.learn.freezing import freeze

BITS = [1.4, 2.9, 3.8, 5.5, 2.1]


def _specs(channels):
  spec = LayerSpec("block/conv", (1, 1, channels, 4), 1, Palette((1, 2, 4)), False, None, 1)
  first = LayerSpec("first", (1, 1, 3, 4), 1, Palette((8,)), True, 8, 1)
  return {"first": first, "block/conv": spec}


def _tree(bits):
  return {"block": {"conv": {"s": s_of_bits(jnp.asarray(bits, jnp.float32))}}}


def _bits(tree):
  return np.asarray(bits_of_s(tree["block"]["conv"]["s"]))


def _frozen(before, after, done, steps=10, fraction=0.5):
  where = {"steps_done": done, "steps": steps, "fraction": fraction}
  return _bits(freeze(_tree(before), _tree(after), _specs(len(before)), **where))


def test_the_nearest_come_to_rest_first_and_all_in_the_end():
  np.testing.assert_allclose(_frozen(BITS, BITS, 5), BITS, rtol=1e-5)
  np.testing.assert_allclose(_frozen(BITS, BITS, 7), [1.4, 2.9, 4, 5.5, 2], atol=6e-3)  # 2 of 5
  np.testing.assert_allclose(_frozen(BITS, BITS, 10), [1, 2, 4, 4, 2], atol=6e-3)


def test_who_rests_does_not_move_and_no_other_takes_its_place():
  at_rest = _frozen(BITS, BITS, 7)
  moved = at_rest + np.float32([0, -0.87, 0.015, 0, 0.015])  # a step, which brings another to 2.03
  after = _frozen(at_rest, moved, 7)
  np.testing.assert_allclose(after[[2, 4]], at_rest[[2, 4]], rtol=1e-5)
  np.testing.assert_allclose(after[1], moved[1], rtol=1e-5)
  np.testing.assert_allclose(_frozen(at_rest, moved, 5)[2], moved[2], rtol=1e-5)  # not begun


def test_an_assignment_still_finds_the_order_of_what_was_learned():
  bits = [1.1, 1.45, 1.6, 2.4, 3.5, 5.0]
  after = _frozen(bits, bits, 10)
  np.testing.assert_allclose(after, [1, 1, 2, 2, 4, 4], atol=6e-3)
  assert (np.diff(after) > 1e-4).all()


def test_equal_channels_rest_together_once_there_is_room():
  np.testing.assert_allclose(_frozen([2.6] * 4, [2.6] * 4, 9), [2.6] * 4, rtol=1e-5)
  np.testing.assert_allclose(_frozen([2.6] * 4, [2.6] * 4, 10), [2] * 4, atol=6e-3)


@pytest.mark.parametrize("steps", [7, 49, 100, 1263])
@pytest.mark.parametrize("fraction", [0.2, 0.4, 0.85, 1.0])
def test_the_last_step_leaves_no_channel_out(steps, fraction):
  bits = jnp.linspace(1.05, 5.5, 64)

  @jax.jit
  def last(bits, done):
    tree = {"block": {"conv": {"s": s_of_bits(bits)}}}
    return freeze(tree, tree, _specs(64), steps_done=done, steps=steps, fraction=fraction)

  after = _bits(last(bits, jnp.int32(steps)))
  assert np.abs(after[:, None] - np.array([1, 2, 4])).min(axis=1).max() < 6e-3
  some = _bits(last(bits, jnp.int32(steps - 1)))
  assert np.abs(some[:, None] - np.array([1, 2, 4])).min(axis=1).max() > 0.1
