"""Where a packed network's time goes: every packed layer alone, and what lies between them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jax
import numpy as np

from hetjax import runtime
from hetjax.bench.networks import NETWORKS, NetworkSpec, packed_network
from hetjax.bench.rows import Row, number
from hetjax.bench.timing import bursts
from hetjax.bench.workloads import MIXES
from hetjax.ops import primitives
from hetjax.report import Column
from hetjax.runtime.graph import Graph, Node, Value

COLUMNS = (
  Column("network", "network"),
  Column("threads", "threads"),
  Column("step", "step"),
  Column("what", "what"),
  Column("microseconds", "us", number),
  Column("share", "share", lambda v: f"{100 * v:.1f} %"),
  Column("gmacs", "GMAC/s", number),
)
_PACKED = {op.primitive: op for op in (primitives.FUSED_LAYER, primitives.PACKED_LAYER)}


def parts(graph: Graph) -> list[Graph]:
  """The program cut into packed layers and the runs of other equations between them."""
  found, produced = [], {v: i for i, n in enumerate(graph.nodes) for v in n.outputs}
  last_read: dict[Value, int] = dict.fromkeys(graph.outputs, len(graph.nodes))
  for i, node in enumerate(graph.nodes):
    for value in node.inputs:
      last_read[value] = max(last_read.get(value, 0), i)
  numbered = itertools.groupby(
    enumerate(graph.nodes), key=lambda item: item[0] if item[1].primitive in _PACKED else -1
  )
  for _, group in numbered:
    indices, nodes = zip(*group, strict=True)
    end = indices[-1]
    outside = lambda v, first=indices[0]: not v.is_constant and produced.get(v, -1) < first
    inputs = [v for node in nodes for v in node.inputs if outside(v)]
    outputs = [v for node in nodes for v in node.outputs if last_read.get(v, -1) > end]
    found.append(Graph(tuple(dict.fromkeys(inputs)), nodes, tuple(outputs)))
  return found


def describe(part: Graph) -> tuple[str, int]:
  """A part in words, and its multiply-accumulates, borders counted as interior; 0 if unpacked."""
  node: Node = part.nodes[0]
  if node.primitive not in _PACKED:
    names = dict.fromkeys(n.primitive.name for n in part.nodes)
    text = ", ".join(names)
    return (text if len(text) <= 60 else text[:57] + "..."), 0
  args, static = _PACKED[node.primitive].arguments(node.inputs, node.parameters)
  weights = args[1]
  kernel, layout = weights.kernel_shape, weights.layout
  positions = int(np.prod(part.outputs[0].shape[:-1]))
  size = "x".join(map(str, part.outputs[0].shape[1:-1]))
  counts = " + ".join(f"{n} of {p} bits" for p, n in layout.counts.items() if n)
  grouped = f" in {layout.groups} groups" if layout.groups > 1 else ""
  strides = static["window"].strides[0] if static.get("window") else 1
  strided = f" / {strides}" if strides > 1 else ""
  text = f"{kernel[0]}x{kernel[1]}{strided}{grouped}: {counts} to {kernel[3]} at {size or 1}"
  return text, positions * int(np.prod(kernel))


def profile(network: runtime.Network, x: jax.Array, seconds: float) -> list[Row]:
  """One row per part of a network and one for the whole, timed in turns; shares are of the sum."""
  graph = network.program(jax.ShapeDtypeStruct(x.shape, x.dtype)).graph
  known: dict[Value, jax.Array] = {graph.inputs[0]: x}
  pieces, calls = parts(graph), {}
  for i, part in enumerate(pieces):
    constants = [v.constant for v in part.constants()]
    inputs = [known[v] for v in part.inputs]
    run = jax.jit(lambda constants, inputs, part=part: part.run(constants, inputs))
    known |= zip(part.outputs, run(constants, inputs), strict=True)
    calls[i] = lambda run=run, a=constants, b=inputs: jax.block_until_ready(run(a, b))
  calls["whole"] = lambda: jax.block_until_ready(network(x))
  times = bursts(calls, seconds=seconds, burst=0.002, least=3)
  total = sum(times[i].median for i in range(len(pieces)))
  rows = []
  for i, part in enumerate(pieces):
    what, macs = describe(part)
    row = {"step": i, "what": what, "microseconds": times[i].microseconds}
    row |= {"share": times[i].median / total, "macs": macs}
    rows.append(row | ({"gmacs": macs / times[i].median / 1e9} if macs else {}))
  macs = sum(row["macs"] for row in rows)
  whole = times["whole"]
  row = {"step": len(rows), "what": "the whole network in one call", "macs": macs}
  row |= {"microseconds": whole.microseconds, "share": whole.median / total}
  return [*rows, row | {"gmacs": macs / whole.median / 1e9}]


def measure(
  threads: int,
  *,
  seconds: float = 10.0,
  specs: Sequence[NetworkSpec] = NETWORKS,
  mixes: Sequence[str] = tuple(MIXES)[:1],
) -> list[Row]:
  """Profiles of networks in the first of some mixes; `seconds` is per network."""
  out = []
  for spec in specs:
    network = packed_network(spec, mixes[0])
    x = jax.random.normal(jax.random.key(0), spec.shape)
    about = {"network": spec.name, "threads": threads}
    out += [about | row for row in profile(network, x, seconds)]
  return out
