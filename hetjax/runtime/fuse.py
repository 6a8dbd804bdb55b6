"""The fusion pass: packed layers take in what follows them, and records flow between them.

It looks, from every packed layer, for

    quantize_pack? -> layer -> (scale or shift per channel)* -> + residual? -> relu | relu6?
                   -> quantize_pack of each consumer

and puts one fused layer in its place. A step is taken only if nothing else reads the tensor before
it, so nothing is computed twice; a tensor that something else reads as well is kept as float32.
Everything that does not fit the pattern stays as it is.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from hetjax.ops import Requantize
from hetjax.ops.primitives import FUSED_LAYER, PACKED_LAYER, QUANTIZE_PACK
from hetjax.runtime.affine import Affine, channel_step, is_scalar
from hetjax.runtime.graph import Graph, Node, Value


def fuse(graph: Graph) -> Graph:
  """The same program with packed layers fused. Accumulators of equal records are equal."""
  return _Pass(graph).run()


@dataclasses.dataclass
class _Chain:
  """A layer and the steps after it that its epilogue takes in; `end` is the tensor so far."""

  layer: Node
  end: Value
  affine: Affine
  residual: Value | None = None
  activation: str | None = None
  covered: list[Node] = dataclasses.field(default_factory=list)


class _Pass:
  def __init__(self, graph: Graph):
    self.graph = graph
    self.uses, self.readers = graph.uses(), graph.readers()
    self.producers = graph.producers()
    self.covered: set[Node] = set()  # nodes that a fused layer stands for
    self.fused: dict[Node, Node] = {}  # the last covered node of a chain -> its fused layer
    self.same: dict[Value, Value] = {}  # records -> equal records that another consumer has

  def run(self) -> Graph:
    for node in self.graph.nodes:
      if node.primitive is PACKED_LAYER.primitive:
        self._fuse_layer(node)
    nodes = []
    for node in self.graph.nodes:
      if node in self.fused:
        nodes.append(self.fused[node])
      elif node not in self.covered:
        nodes.append(node)
    nodes = [
      dataclasses.replace(n, inputs=tuple(self.same.get(v, v) for v in n.inputs)) for n in nodes
    ]
    outputs = tuple(self.same.get(v, v) for v in self.graph.outputs)
    return dataclasses.replace(self.graph, nodes=tuple(nodes), outputs=outputs).pruned()

  def _fuse_layer(self, layer: Node) -> None:
    (records, weights, scale, bias), static = PACKED_LAYER.arguments(layer.inputs, layer.parameters)
    if scale is None:  # its accumulators are the result
      return
    chain = _Chain(layer, layer.outputs[0], Affine.of(scale, bias), covered=[layer])
    while self._extend(chain):
      pass
    x, inv_beta = self._input(records)
    requantize, outputs, others = self._consumers(chain)
    arguments = (x, weights, *chain.affine.values(), inv_beta, chain.residual, requantize)
    keywords = static | {"activation": chain.activation, "keep_values": others}
    operands, parameters = FUSED_LAYER.equation(arguments, keywords)
    if others:
      outputs = (chain.end, *outputs)
    self.fused[chain.covered[-1]] = Node(
      FUSED_LAYER.primitive, parameters, tuple(operands), tuple(outputs)
    )

  def _extend(self, chain: _Chain) -> bool:
    """Takes the next step into the chain's epilogue, if it is one of the pattern's."""
    if self.uses[chain.end] != 1 or not self.readers[chain.end]:
      return False
    (reader,) = self.readers[chain.end]
    if reader in self.covered or len(reader.outputs) != 1:
      return False
    (end,) = reader.outputs
    if (end.shape, end.dtype) != (chain.end.shape, chain.end.dtype):
      return False
    if not self._take(chain, reader):
      return False
    chain.end = end
    chain.covered.append(reader)
    self.covered.add(reader)
    return True

  def _take(self, chain: _Chain, reader: Node) -> bool:
    name, end = reader.primitive.name, chain.end
    if chain.activation is not None:
      if chain.activation == "relu" and name == "min" and is_scalar(_other(reader, end), 6.0):
        chain.activation = "relu6"
        return True
      return False
    if name == "max" and is_scalar(_other(reader, end), 0.0):
      chain.activation = "relu"
      return True
    if name == "clamp" and reader.inputs[1] is end:
      if is_scalar(reader.inputs[0], 0.0) and is_scalar(reader.inputs[2], 6.0):
        chain.activation = "relu6"
        return True
      return False
    if chain.residual is None:
      step = channel_step(reader, end, self.producers)
      if step is not None and chain.affine.can_take(step):
        chain.affine = chain.affine.then(step)
        return True
      if name == "add" and _other(reader, end).shape == end.shape:
        chain.residual = _other(reader, end)
        return True
    return False

  def _input(self, records: Value) -> tuple[Value, Value | None]:
    """What the layer reads: records, or values that only this layer quantizes."""
    source = self.producers.get(records)
    if source is None or source in self.covered or self.uses[records] != 1:
      return records, None
    if source.primitive is not QUANTIZE_PACK.primitive:
      return records, None
    self.covered.add(source)
    (values, inv_beta), _ = QUANTIZE_PACK.arguments(source.inputs, source.parameters)
    return values, inv_beta

  def _consumers(self, chain: _Chain) -> tuple[tuple[Requantize, ...], list[Value], bool]:
    """How the chain's end is read as records, those records, and whether as values too."""
    requantize: dict[tuple, Requantize] = {}
    records: dict[tuple, Value] = {}
    others = chain.end in self.graph.outputs
    for reader in self.readers[chain.end]:
      if reader.primitive is not QUANTIZE_PACK.primitive or not reader.inputs[1].is_constant:
        others = True
        continue
      inv_beta, static = reader.inputs[1], dict(reader.parameters["static"])
      key = (static["layout"], static["signed"], float(np.asarray(inv_beta.constant)))
      if key in records:
        self.same[reader.outputs[0]] = records[key]
      else:
        records[key] = reader.outputs[0]
        requantize[key] = Requantize(inv_beta, static["layout"], static["signed"])
      self.covered.add(reader)
    return tuple(requantize.values()), list(records.values()), others


def _other(node: Node, value: Value) -> Value:
  """The operand of a binary node that is not `value`."""
  first, second = node.inputs
  return second if first is value else first
