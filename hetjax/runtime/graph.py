"""A traced program as a flat list of nodes: what the fusion pass reads and rewrites.

Tracing inlines calls (jit, custom derivatives, checkpoints) and computes at once whatever depends
on the variables alone, so that a norm's factors are arrays and not equations.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Primitive

# Primitive -> the parameter with its body. Inlining drops what only gradients or schedules need.
_CALLS = {
  "jit": "jaxpr",
  "pjit": "jaxpr",
  "closed_call": "call_jaxpr",
  "core_call": "call_jaxpr",
  "custom_jvp_call": "call_jaxpr",
  "custom_vjp_call": "call_jaxpr",
  "checkpoint": "jaxpr",
  "remat2": "jaxpr",
}
_UNFOLDED = ("quantize_pack", "packed_layer", "fused_layer")


@dataclasses.dataclass(frozen=True, eq=False)
class Value:
  """A tensor of the program.

  Attributes:
    shape: Its shape; the batch may be symbolic.
    dtype: Its type.
    constant: Its array if it depends on nothing but the variables, else None.
  """

  shape: tuple[Any, ...]
  dtype: Any
  constant: Any = None

  @classmethod
  def of(cls, array: Any) -> Value:
    """A known value, as an array that outlives a trace that this may happen in."""
    with jax.ensure_compile_time_eval():
      array = jax.numpy.asarray(array)
    return cls(array.shape, array.dtype, array)

  @property
  def is_constant(self) -> bool:
    """Whether the value is known."""
    return self.constant is not None


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
  """One equation.

  Attributes:
    primitive: What it computes.
    parameters: Its static arguments.
    inputs: What it reads.
    outputs: What it makes.
    has_effects: Whether it does more than that, as a print does.
  """

  primitive: Primitive
  parameters: dict[str, Any]
  inputs: tuple[Value, ...]
  outputs: tuple[Value, ...]
  has_effects: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
  """A program: nodes in an order in which they can run."""

  inputs: tuple[Value, ...]
  nodes: tuple[Node, ...]
  outputs: tuple[Value, ...]

  def producers(self) -> dict[Value, Node]:
    """The node that makes each value."""
    return {value: node for node in self.nodes for value in node.outputs}

  def uses(self) -> collections.Counter[Value]:
    """How often each value is read, the program's outputs included."""
    read = [value for node in self.nodes for value in node.inputs]
    return collections.Counter([*read, *self.outputs])

  def readers(self) -> dict[Value, list[Node]]:
    """The nodes that read each value, in order."""
    found: dict[Value, list[Node]] = collections.defaultdict(list)
    for node in self.nodes:
      for value in dict.fromkeys(node.inputs):
        found[value].append(node)
    return found

  def pruned(self) -> Graph:
    """The program without nodes that nobody reads and that do nothing else."""
    wanted, kept = set(self.outputs), []
    for node in reversed(self.nodes):
      if node.has_effects or wanted.intersection(node.outputs):
        wanted.update(node.inputs)
        kept.append(node)
    return dataclasses.replace(self, nodes=tuple(reversed(kept)))

  def constants(self) -> list[Value]:
    """Arrays that the program reads, each once; numbers written in the source are none."""
    values = [value for node in self.nodes for value in node.inputs] + list(self.outputs)
    return [v for v in dict.fromkeys(values) if isinstance(v.constant, jax.Array)]

  def run(self, constants: Sequence[jax.Array], inputs: Sequence[jax.Array]) -> list[jax.Array]:
    """The outputs, given arrays for `constants()` and for the inputs."""
    known = dict(zip(self.constants(), constants, strict=True))
    known |= zip(self.inputs, inputs, strict=True)
    read = lambda value: known.get(value, value.constant)
    for node in self.nodes:
      known |= zip(node.outputs, _bind(node, [read(v) for v in node.inputs]), strict=True)
    return [read(value) for value in self.outputs]


def _bind(node: Node, operands: Sequence[Any]) -> Sequence[Any]:
  out = node.primitive.bind(*operands, **node.primitive.get_bind_params(node.parameters))
  return out if node.primitive.multiple_results else [out]


def trace(
  function: Callable[..., Any], variables: Any, *inputs: jax.ShapeDtypeStruct
) -> tuple[Graph, Any]:
  """The graph of `function(variables, *inputs)` and its result's tree structure.

  Args:
    function: Traceable.
    variables: A pytree of arrays; they and what follows from them become constants.
    *inputs: Shapes and dtypes of the arrays that vary; symbolic sizes are welcome.
  """
  leaves, tree = jax.tree.flatten(variables)
  call = lambda leaves, *xs: function(jax.tree.unflatten(tree, leaves), *xs)
  closed, shape = jax.make_jaxpr(call, return_shape=True)(leaves, *inputs)
  known = [Value.of(leaf) for leaf in leaves]
  varying = [Value(tuple(x.shape), x.dtype) for x in inputs]
  nodes: list[Node] = []
  outputs = _inline(closed, [*known, *varying], nodes)
  return Graph(tuple(varying), tuple(nodes), tuple(outputs)).pruned(), jax.tree.structure(shape)


def _inline(body: ClosedJaxpr | Jaxpr, inputs: Sequence[Value], nodes: list[Node]) -> list[Value]:
  """Appends the body's equations to `nodes`; its outputs."""
  jaxpr, arrays = getattr(body, "jaxpr", body), getattr(body, "consts", ())
  known = dict(zip(jaxpr.invars, inputs, strict=True))
  for variable, array in zip(jaxpr.constvars, arrays, strict=True):
    known[variable] = Value(variable.aval.shape, variable.aval.dtype, array)

  def read(atom: Any) -> Value:
    if isinstance(atom, Literal):
      return Value(atom.aval.shape, atom.aval.dtype, atom.val)
    return known[atom]

  for equation in jaxpr.eqns:
    operands = [read(atom) for atom in equation.invars]
    inner = _CALLS.get(equation.primitive.name)
    if inner in equation.params:
      outputs = _inline(equation.params[inner], operands, nodes)
    else:
      outputs = _node(equation, operands, nodes)
    known |= zip(equation.outvars, outputs, strict=True)
  return [read(atom) for atom in jaxpr.outvars]


def _node(equation: Any, operands: Sequence[Value], nodes: list[Node]) -> Sequence[Value]:
  """Appends one equation, or computes it if its operands are known and its results no larger."""
  avals = [v.aval for v in equation.outvars]
  outputs = tuple(Value(a.shape, a.dtype) for a in avals)
  node = Node(equation.primitive, equation.params, tuple(operands), outputs, bool(equation.effects))
  if _foldable(node):
    with jax.ensure_compile_time_eval():
      arrays = _bind(node, [v.constant for v in operands])
    return [Value(v.shape, v.dtype, a) for v, a in zip(outputs, arrays, strict=True)]
  nodes.append(node)
  return outputs


def _foldable(node: Node) -> bool:
  if not node.inputs or node.has_effects or node.primitive.name in _UNFOLDED:
    return False
  if not all(v.is_constant for v in node.inputs):
    return False
  sizes = [size for v in (*node.inputs, *node.outputs) for size in v.shape]
  if not all(isinstance(size, int) for size in sizes):
    return False
  elements = lambda values: sum(math.prod(v.shape) for v in values)
  return elements(node.outputs) <= elements(node.inputs)
