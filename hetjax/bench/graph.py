"""Networks as a short list of layers, which every peer translates into its own form.

Tensors are channels last (NHWC for images, [batch, tokens, channels] for sequences) and float32;
norms of convolutions are already folded. A single layer is a graph of one node.

| op | constants | options |
|---|---|---|
| conv | kernel f32[kh,kw,cg,n], bias f32[n] | strides, padding, groups, activation |
| dense | kernel f32[c,n], bias f32[n] | activation |
| add | | activation |
| max_pool | | window, strides, padding |
| mean | | over all axes between batch and channels: to [b,c] |
| flatten | | sizes (h,w,c) of images, to [b,h*w*c] with channels last |
| layer_norm | scale f32[c], bias f32[c] | epsilon |
| attention | | heads, channels; inputs query, key, value [b,t,c] |
| shift | value f32[t,c], added to every example | |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

ACTIVATIONS = (None, "relu", "relu6", "gelu")


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
  """One layer.

  Attributes:
    op: Which one; see the table above.
    inputs: Names of the tensors it reads.
    output: Name of the tensor it makes.
    constants: Its weights by name.
    options: Its static parameters by name.
  """

  op: str
  inputs: tuple[str, ...]
  output: str
  constants: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @property
  def activation(self) -> str | None:
    return self.options.get("activation")


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
  """Layers in the order in which they run.

  Attributes:
    shape: Of the input, batch first. The input's name is "input".
    nodes: The layers; each reads tensors made before it.
    layers: How often the benchmarked layer occurs, for time per layer; 1 for networks.
  """

  shape: tuple[int, ...]
  nodes: tuple[Node, ...]
  layers: int = 1

  @property
  def output(self) -> str:
    """Name of the tensor that the last node makes."""
    return self.nodes[-1].output

  def consumers(self, tensor: str) -> list[Node]:
    """Nodes that read a tensor."""
    return [node for node in self.nodes if tensor in node.inputs]


def flattened_channels_first(graph: Graph) -> Graph:
  """For peers with NCHW images: vectors in that order, and dense layers that read them so."""
  sizes = {n.output: n.options["sizes"] for n in graph.nodes if n.op == "flatten"}

  def reordered(node: Node) -> Node:
    if node.op != "dense" or node.inputs[0] not in sizes:
      return node
    h, w, c = sizes[node.inputs[0]]
    order = np.arange(h * w * c).reshape(h, w, c).transpose(2, 0, 1).ravel()
    kernel = np.ascontiguousarray(node.constants["kernel"][order])
    return dataclasses.replace(node, constants={**node.constants, "kernel": kernel})

  return dataclasses.replace(graph, nodes=tuple(map(reordered, graph.nodes)))


class Builder:
  """Collects nodes and names their outputs. Methods take and return tensor names.

  Attributes:
    shape: Of the input, batch first.
    input: The input's name.
  """

  def __init__(self, shape: tuple[int, ...]):
    self.shape, self._nodes = tuple(shape), []
    self.input = "input"

  def _append(self, op: str, inputs, constants=None, **options) -> str:
    if options.get("activation") not in ACTIVATIONS:
      raise ValueError(f"activation must be one of {ACTIVATIONS}, got {options['activation']!r}")
    constants = {k: np.asarray(v, np.float32) for k, v in (constants or {}).items()}
    node = Node(op, tuple(inputs), f"{op}{len(self._nodes)}", constants, options)
    self._nodes.append(node)
    return node.output

  def conv(self, x, kernel, bias, *, strides=1, padding=0, groups=1, activation=None) -> str:
    """2-D convolution with equal strides and equal padding on all sides, then the activation."""
    constants = {"kernel": kernel, "bias": bias}
    options = {"strides": strides, "padding": padding, "groups": groups, "activation": activation}
    return self._append("conv", [x], constants, **options)

  def dense(self, x, kernel, bias, *, activation=None) -> str:
    """A linear map over the last axis."""
    return self._append("dense", [x], {"kernel": kernel, "bias": bias}, activation=activation)

  def add(self, x, y, *, activation=None) -> str:
    """Sum of two tensors of equal shape."""
    return self._append("add", [x, y], activation=activation)

  def max_pool(self, x, *, window: int, strides: int, padding: int) -> str:
    """Maximum over square windows."""
    return self._append("max_pool", [x], window=window, strides=strides, padding=padding)

  def mean(self, x) -> str:
    """Mean over all positions."""
    return self._append("mean", [x], images=len(self.shape) == 4)

  def flatten(self, x, *, sizes: tuple[int, int, int]) -> str:
    """Images of the given height, width and channels as vectors."""
    return self._append("flatten", [x], sizes=sizes)

  def layer_norm(self, x, scale, bias, *, epsilon: float) -> str:
    """Normalisation over the last axis."""
    return self._append("layer_norm", [x], {"scale": scale, "bias": bias}, epsilon=epsilon)

  def attention(self, query, key, value, *, heads: int, channels: int) -> str:
    """Softmax attention, heads side by side in the channels, scaled by 1 / sqrt(c / heads)."""
    return self._append("attention", [query, key, value], heads=heads, channels=channels)

  def shift(self, x, value) -> str:
    """Adds a constant, such as positions."""
    return self._append("shift", [x], {"value": value})

  def graph(self, layers: int = 1) -> Graph:
    """What was built."""
    return Graph(self.shape, tuple(self._nodes), layers)
