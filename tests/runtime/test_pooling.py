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


REPLACEMENTS = {"reference": "max_pool", "xla_cpu": "max_pool by the engine"}


@pytest.fixture(params=[name for name, reason in ops.implementations().items() if not reason])
def implementation(request):
  return request.param


def replaced(function, x, implementation):
  """Names of what a function of images became, having checked its results."""
  graph, _ = trace(lambda _, x: function(x), (), jax.ShapeDtypeStruct(x.shape, x.dtype))
  graph = replace_pooling(graph, implementation)
  run = jax.jit(lambda x: graph.run([], [x]))
  (got,) = run(x)
  np.testing.assert_array_equal(got, jax.jit(function)(x))
  by_engine = "hetjax_max_pool" in run.lower(x).as_text()
  return [node.primitive.name + " by the engine" * by_engine for node in graph.nodes]


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
def test_images(implementation, window, strides, padding):
  for images in (X, WIDE):
    pool = lambda x: nn.max_pool(x, window, strides, padding)
    names = replaced(pool, jnp.asarray(images), implementation)
    assert REPLACEMENTS[implementation] in names and "reduce_window_max" not in names


def test_dilated_windows(implementation):
  def function(x):
    return lax.reduce_window(
      x, -jnp.inf, lax.max, (1, 2, 3, 1), (1, 1, 2, 1), "VALID", window_dilation=(1, 3, 2, 1)
    )

  names = replaced(function, jnp.asarray(X), implementation)
  assert names == [REPLACEMENTS[implementation]]


@pytest.mark.parametrize(
  ("dtype", "window", "padding"),
  [
    ("bfloat16", (1, 2, 2, 1), ((0, 0),) * 4),
    ("float32", (1, 2, 2, 1), ((0, 0), (-1, 0), (0, 1), (0, 0))),
    ("float32", (1, 2, 1, 2), ((0, 0),) * 4),  # over channels
  ],
)
def test_what_the_engine_leaves_to_slices(implementation, dtype, window, padding):
  pool = lambda x: lax.reduce_window(x, -jnp.inf, lax.max, window, (1, 2, 1, 1), padding)
  x = jnp.asarray(WIDE).astype(dtype)
  assert replaced(pool, x, implementation) == ["max_pool"]


def test_any_batch(implementation):
  (b,) = jax.export.symbolic_shape("b")
  pool = lambda x: nn.max_pool(x, (3, 3), (2, 2), "SAME")
  graph, _ = trace(lambda _, x: pool(x), (), jax.ShapeDtypeStruct((b, 7, 8, 45), jnp.float32))
  run = replace_pooling(graph, implementation).run
  checks = [jax.export.DisabledSafetyCheck.custom_call("hetjax_max_pool")]
  exported = jax.export.export(jax.jit(lambda x: run([], [x])), disabled_checks=checks)(
    jax.ShapeDtypeStruct((b, 7, 8, 45), jnp.float32)
  )
  (got,) = exported.call(jnp.asarray(WIDE))
  np.testing.assert_array_equal(got, pool(jnp.asarray(WIDE)))


def test_what_is_not_taken_over(implementation):
  over_batch = lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 2, 2, 1), (1,) * 4, "VALID")
  assert replaced(over_batch, jnp.asarray(X), implementation) == ["reduce_window_max"]
  integers = jnp.arange(40).reshape(1, 5, 8, 1)
  low = jnp.iinfo(jnp.int32).min
  whole = lambda x: lax.reduce_window(x, low, lax.max, (1, 2, 2, 1), (1,) * 4, "VALID")
  assert replaced(whole, integers, implementation) == ["reduce_window_max"]
