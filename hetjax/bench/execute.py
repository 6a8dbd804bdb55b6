"""Graphs in JAX: the judge of all peers, the calibration of int8 ones, and the XLA peer itself."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from hetjax.bench.graph import Graph, Node

Observe = Callable[[str, Array], Array]
Constants = list[dict[str, Array]]


def constants_of(graph: Graph) -> Constants:
  """The weights of all nodes as JAX arrays, to be an argument of a compiled function."""
  return [{k: jnp.asarray(v) for k, v in node.constants.items()} for node in graph.nodes]


def execute(
  graph: Graph, constants: Constants, x: Float[Array, ...], observe: Observe | None = None
) -> Float[Array, ...]:
  """The graph's output.

  Args:
    graph: The layers.
    constants: Their weights, see `constants_of`.
    x: The input, of `graph.shape`.
    observe: Called with name and value of every tensor, the input's too; what it returns is used in
      the tensor's place.
  """
  observe = observe or (lambda name, value: value)
  tensors = {"input": observe("input", x)}
  for node, values in zip(graph.nodes, constants, strict=True):
    y = _OPS[node.op](node, values, *(tensors[name] for name in node.inputs))
    tensors[node.output] = observe(node.output, activate(y, node.activation))
  return tensors[graph.output]


def activate(x: Array, activation: str | None) -> Array:
  """Applies an activation by name."""
  if activation == "relu":
    return jax.nn.relu(x)
  if activation == "relu6":
    return jax.nn.relu6(x)
  return jax.nn.gelu(x) if activation == "gelu" else x


def _conv(node: Node, values, x):
  strides, padding = node.options["strides"], node.options["padding"]
  y = lax.conv_general_dilated(
    x,
    values["kernel"],
    (strides, strides),
    ((padding, padding),) * 2,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=node.options["groups"],
  )
  return y + values["bias"]


def _max_pool(node: Node, values, x):
  window, strides, padding = (node.options[k] for k in ("window", "strides", "padding"))
  pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))
  window, strides = (1, window, window, 1), (1, strides, strides, 1)
  return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, pads)


def _layer_norm(node: Node, values, x):
  centred = x - jnp.mean(x, axis=-1, keepdims=True)
  variance = jnp.mean(jnp.square(centred), axis=-1, keepdims=True)
  return centred * lax.rsqrt(variance + node.options["epsilon"]) * values["scale"] + values["bias"]


def _attention(node: Node, values, query, key, value):
  b, t, c = query.shape
  split = lambda x: x.reshape(b, -1, node.options["heads"], c // node.options["heads"])
  return jax.nn.dot_product_attention(split(query), split(key), split(value)).reshape(b, t, c)


_OPS: dict[str, Callable] = {
  "conv": _conv,
  "dense": lambda node, values, x: x @ values["kernel"] + values["bias"],
  "add": lambda node, values, x, y: x + y,
  "max_pool": _max_pool,
  "flatten": lambda node, values, x: x.reshape(x.shape[0], -1),
  "mean": lambda node, values, x: jnp.mean(x, axis=tuple(range(1, x.ndim - 1))),
  "layer_norm": _layer_norm,
  "attention": _attention,
  "shift": lambda node, values, x: x + values["value"],
}


def run(graph: Graph, x: np.ndarray) -> np.ndarray:
  """The graph's float32 output as NumPy, with products in full float32 precision."""
  with jax.default_matmul_precision("highest"):
    call = jax.jit(lambda constants, x: execute(graph, constants, x))
    return np.asarray(call(constants_of(graph), jnp.asarray(x)))
