"""Max pooling by the engine, or by shifted slices: both faster on CPU than XLA's own reduction."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from hetjax.ops.operation import Operation
from hetjax.runtime.graph import Graph, Node
from hetjax.xla_cpu.max_pool import max_pool


def replace_pooling(graph: Graph, implementation: str) -> Graph:
  """The same program with max pooling as fast as the implementation has it.

  Results are equal, but for NaN that XLA's own reduction loses in windows of some shapes.
  """
  if jax.default_backend() != "cpu":
    return graph
  by_engine = implementation == "xla_cpu"
  nodes = tuple(_replaced(node, by_engine) for node in graph.nodes)
  return dataclasses.replace(graph, nodes=nodes)


def _replaced(node: Node, by_engine: bool) -> Node:
  if node.primitive.name != "reduce_window_max" or not _is_plain(node):
    return node
  names = ("window_dimensions", "window_strides", "padding", "window_dilation")
  windows = {name: tuple(node.parameters[name]) for name in names}
  operands, parameters = MAX_POOL.equation(node.inputs, windows | {"by_engine": by_engine})
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
  by_engine: bool,
) -> tuple[Array]:
  is_image = x.ndim == 4 and (window_dimensions[3], window_strides[3], *padding[3]) == (1, 1, 0, 0)
  if by_engine and is_image and x.dtype == jnp.float32 and min(map(min, padding)) >= 0:
    image = slice(1, 3)
    y = max_pool(
      x,
      window=window_dimensions[image],
      strides=window_strides[image],
      padding=padding[image],
      dilation=window_dilation[image],
    )
    return (y,)
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
