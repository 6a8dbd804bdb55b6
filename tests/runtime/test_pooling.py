"""Max pooling by the engine and by slices equals XLA's own, on whatever they take over."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from hetjax import ops
from hetjax.runtime.graph import trace
from hetjax.runtime.pooling import replace_pooling

X = np.random.default_rng(0).normal(size=(2, 9, 10, 3)).astype(np.float32)
X[0, 4, 4, 0], X[1, 0, 0, 1], X[1, 2, 3, 2] = np.nan, np.inf, -np.inf
# Without NaN, which XLA's own pooling loses in some windows of so many channels.
WIDE = np.random.default_rng(1).normal(size=(1, 7, 8, 45)).astype(np.float32)


@pytest.fixture(params=[name for name, reason in ops.implementations().items() if not reason])
def both(request):
  """Checks a function of images, and gives the names of what it was replaced by."""
  return lambda function, x: replaced(function, x, request.param)


def replaced(function, x, implementation):
  graph, _ = trace(lambda _, x: function(x), (), jax.ShapeDtypeStruct(x.shape, x.dtype))
  split = replace_pooling(graph, implementation)
  (got,) = jax.jit(lambda x: split.run([], [x]))(x)
  np.testing.assert_array_equal(got, jax.jit(function)(x))
  return [node.primitive.name for node in split.nodes]


@pytest.mark.parametrize(
  ("window", "strides", "padding"),
  [
    ((3, 3), (2, 2), ((1, 1), (1, 1))),
    ((2, 2), (2, 2), "VALID"),
    ((3, 2), (1, 3), "SAME"),
    ((1, 1), (2, 2), "VALID"),
    ((1, 4), (1, 1), ((0, 0), (3, 0))),
    ((12, 2), (1, 1), "VALID"),  # no position
  ],
)
def test_images(both, window, strides, padding):
  names = both(lambda x: nn.max_pool(x, window, strides, padding), jnp.asarray(X))
  assert names == both(lambda x: nn.max_pool(x, window, strides, padding), jnp.asarray(WIDE))
  assert "max_pool" in names and "reduce_window_max" not in names


def test_dilated_windows(both):
  def function(x):
    return lax.reduce_window(
      x, -jnp.inf, lax.max, (1, 2, 3, 1), (1, 1, 2, 1), "VALID", window_dilation=(1, 3, 2, 1)
    )

  assert both(function, jnp.asarray(X)) == ["max_pool"]


def test_what_it_does_not_take_over(both):
  over_batch = lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 2, 2, 1), (1,) * 4, "VALID")
  assert both(over_batch, jnp.asarray(X)) == ["reduce_window_max"]
  integers = jnp.arange(40).reshape(1, 5, 8, 1)
  low = jnp.iinfo(jnp.int32).min
  whole = lambda x: lax.reduce_window(x, low, lax.max, (1, 2, 2, 1), (1,) * 4, "VALID")
  assert both(whole, integers) == ["reduce_window_max"]
