"""A model and its packed variables as a function that runs fused."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from hetjax import nn as hnn
from hetjax.ops import dispatch
from hetjax.pack import Artifact
from hetjax.runtime.fuse import fuse
from hetjax.runtime.graph import Graph, trace
from hetjax.runtime.pooling import replace_pooling


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
  """A packed network ready to run: `network(images)` gives the model's result.

  A call is an ordinary function, also inside `jit`, for any batch. Each new shape of the input is
  traced, fused and compiled once; large arrays of weights are shared by all of them.

  Attributes:
    model: The Linen module.
    variables: Its variables for packed mode, laid out for `implementation`.
    implementation: Which implementation runs the packed ops; None picks the best.
    artifact: What the network was loaded from, if it was.
  """

  model: nn.Module
  variables: dict[str, Any]
  implementation: str | None = None
  artifact: Artifact | None = None
  _programs: dict[tuple, Program] = dataclasses.field(init=False, default_factory=dict, repr=False)

  def __call__(self, x: Shaped[Array, "b ..."]) -> Any:
    """The model's result for inputs `x`, fused."""
    if not isinstance(x, jax.Array):
      x = jnp.asarray(x)
    program = self._programs.get((x.shape, x.dtype))  # this look-up is all that a call adds
    if program is None:
      program = self.program(jax.ShapeDtypeStruct(x.shape, x.dtype))
    return program(x)

  def apply(self, variables: dict[str, Any], x: Shaped[Array, "b ..."]) -> Any:
    """The model's result layer by layer, unfused, with the variables as an argument."""
    options = {} if self.implementation is None else {"implementation": self.implementation}
    return self.model.apply(variables, x, mode="packed", **options)

  def program(self, x: jax.ShapeDtypeStruct) -> Program:
    """The fused program for inputs of one shape; made on first use."""
    if not all(isinstance(size, int) for size in x.shape):  # symbolic: good for this trace only
      return self._fused(x)
    key = (x.shape, x.dtype)
    if key not in self._programs:
      self._programs[key] = self._fused(x)
    return self._programs[key]

  def _fused(self, x: jax.ShapeDtypeStruct) -> Program:
    implementation = dispatch.resolve(self.implementation)
    graph, tree = trace(self.apply, self.variables, x)
    return Program(replace_pooling(fuse(graph), implementation), tree)


LARGEST_EMBEDDED = 64 << 10  # bytes of an array


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
  """A graph that runs: jitted, large arrays handed in as arguments so that none is copied.

  Every argument takes time in every call, so small arrays are part of the program.
  """

  graph: Graph
  tree: Any

  def __call__(self, x: Array) -> Any:
    return self._run(self._arguments, x)

  def lower(self, x: Array | jax.ShapeDtypeStruct) -> jax.stages.Lowered:
    """As of a jitted function: to compile ahead of time, or to read what is compiled."""
    return self._run.lower(self._arguments, x)

  @functools.cached_property
  def _arguments(self) -> list[jax.Array]:
    return [v.constant for v in self.graph.constants() if v.constant.nbytes > LARGEST_EMBEDDED]

  @functools.cached_property
  def _run(self):
    def network(arguments, x):
      given = iter(arguments)
      constants = [
        v.constant if v.constant.nbytes <= LARGEST_EMBEDDED else next(given)
        for v in self.graph.constants()
      ]
      return jax.tree.unflatten(self.tree, self.graph.run(constants, [x]))

    return jax.jit(network)


def compile(
  model: nn.Module,
  variables: dict[str, Any],
  *,
  example: Shaped[Array, "b ..."] | jax.ShapeDtypeStruct | None = None,
  implementation: str | None = None,
) -> Network:
  """A function that runs a model from packed bits, fused.

  Args:
    model: A Linen module of hetjax layers whose call takes one array, and `mode` as a keyword (and
      `implementation`, if one is named here).
    variables: For packed mode, as `nn.pack_variables` gives them.
    example: An input, or its shape and dtype, to trace and fuse for at once. Otherwise the first
      call with a shape does.
    implementation: Of the packed ops; None picks the best that can run here.

  Returns:
    The function of the input, with the model's result.

  Raises:
    ValueError: the variables are not packed, or were prepared for another implementation.
    ImplementationUnavailable: a named implementation that cannot run here.
  """
  if "packed" not in variables:
    raise ValueError(
      "variables must hold the collection 'packed', see hetjax.nn.pack_variables; "
      f"got {sorted(variables)}"
    )
  dispatch.resolve(implementation)
  # On the device once, so that a call moves nothing but its input. NumPy arrays are copied, and not
  # shared as `device_put` may do: they may be views of a file.
  own = lambda leaf: leaf if isinstance(leaf, jax.Array) else jnp.array(leaf)
  prepared = jax.tree.map(own, hnn.prepare(variables, implementation))
  network = Network(model, prepared, implementation)
  if example is not None:
    network.program(jax.ShapeDtypeStruct(example.shape, example.dtype))
  return network
