"""Max pooling by shifted slices, which XLA runs faster on CPU than its own windowed reduction."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from hetjax.ops.operation import Operation
from hetjax.runtime.graph import Graph, Node


def split_pooling(graph: Graph) -> Graph:
  """The same program with max pooling over one axis after the other. Results are equal."""
  if jax.default_backend() != "cpu":
    return graph
  return dataclasses.replace(graph, nodes=tuple(map(_split, graph.nodes)))


def _split(node: Node) -> Node:
  if node.primitive.name != "reduce_window_max" or not _is_plain(node):
    return node
  names = ("window_dimensions", "window_strides", "padding", "window_dilation")
  operands, parameters = MAX_POOL.equation(
    node.inputs, {name: tuple(node.parameters[name]) for name in names}
  )
  return dataclasses.replace(
    node, primitive=MAX_POOL.primitive, parameters=parameters, inputs=tuple(operands)
  )


def _is_plain(node: Node) -> bool:
  """Whether the node pools floats without holes between them, and not over the batch."""
  (x,) = node.inputs
  keys = ("window_dimensions", "window_strides", "base_dilation")
  batch = (*(node.parameters[key][0] for key in keys), *node.parameters["padding"][0])
  known = all(isinstance(size, int) for size in x.shape[1:])
  whole = all(d == 1 for d in node.parameters["base_dilation"])
  return known and whole and batch == (1, 1, 1, 0, 0) and jnp.issubdtype(x.dtype, jnp.floating)


def _max_pool(
  x: Float[Array, ...],
  *,
  window_dimensions: tuple[int, ...],
  window_strides: tuple[int, ...],
  padding: tuple[tuple[int, int], ...],
  window_dilation: tuple[int, ...],
) -> tuple[Array]:
  per_axis = zip(window_dimensions, window_strides, padding, window_dilation, strict=True)
  for axis, (size, stride, pads, dilation) in enumerate(per_axis):
    if (size, stride, *pads) == (1, 1, 0, 0):
      continue
    edges = [(0, 0, 0)] * x.ndim
    edges[axis] = (*pads, 0)
    x = lax.pad(x, jnp.array(-jnp.inf, x.dtype), edges)
    positions = max(0, (x.shape[axis] - dilation * (size - 1) - 1) // stride + 1)
    span = max(0, (positions - 1) * stride + 1)
    starts = [min(i * dilation, x.shape[axis] - span) for i in range(size)]  # min: if no position
    taps = [lax.slice_in_dim(x, i, i + span, stride, axis) for i in starts]
    x = functools.reduce(jnp.maximum, taps)
  return (x,)


MAX_POOL = Operation("max_pool", _max_pool)
