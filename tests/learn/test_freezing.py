"""Channels come to rest on levels, the nearest first, and stay there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax.core import Palette
from hetjax.core.layers import LayerSpec
from hetjax.core.precision import bits_of_s, s_of_bits
from hetjax.learn.freezing import freeze, share_frozen


def _specs(channels):
  spec = LayerSpec("block/conv", (1, 1, channels, 4), 1, Palette((1, 2, 4)), False, None, 1)
  first = LayerSpec("first", (1, 1, 3, 4), 1, Palette((8,)), True, 8, 1)
  return {"first": first, "block/conv": spec}


def _frozen(bits, done, fraction=0.5):
  precision = {"block": {"conv": {"s": s_of_bits(jnp.asarray(bits))}}}
  out = freeze(precision, _specs(len(bits)), done, fraction)
  return np.asarray(bits_of_s(out["block"]["conv"]["s"]))


def test_the_share_grows_in_the_last_part():
  assert [float(share_frozen(t, 0.4)) for t in (0.0, 0.6, 0.8, 1.0)] == pytest.approx(
    [0, 0, 0.5, 1]
  )


def test_the_nearest_come_to_rest_first_and_all_in_the_end():
  bits = [1.4, 2.9, 3.8, 5.5, 2.1]
  np.testing.assert_allclose(_frozen(bits, 0.5), bits, rtol=1e-5)
  np.testing.assert_allclose(_frozen(bits, 0.7), [1.4, 2.9, 4, 5.5, 2], rtol=1e-5)  # 2 of 5
  np.testing.assert_allclose(_frozen(bits, 1.0), [1, 2, 4, 4, 2], atol=2e-3)


def test_who_rests_stays_and_equal_channels_rest_together():
  at_rest = _frozen([1.4, 2.9, 3.8, 5.5, 2.1], 0.7)
  moved = at_rest + np.float32([0.2, -0.3, 0, 0, 0])
  np.testing.assert_allclose(_frozen(moved, 0.7)[[2, 4]], [4, 2], rtol=1e-5)
  np.testing.assert_allclose(_frozen([2.6] * 4, 0.65), [2] * 4, rtol=1e-5)
  np.testing.assert_allclose(_frozen([2.6] * 4, 0.6), [2.6] * 4, rtol=1e-5)  # not one of four yet


def test_under_jit_it_is_the_same():
  bits = jnp.asarray([1.4, 2.9, 3.8, 5.5])
  run = jax.jit(lambda b, t: freeze({"block": {"conv": {"s": s_of_bits(b)}}}, _specs(4), t, 0.5))
  out = np.asarray(bits_of_s(run(bits, 0.8)["block"]["conv"]["s"]))
  np.testing.assert_allclose(out, _frozen([1.4, 2.9, 3.8, 5.5], 0.8), rtol=1e-6)
