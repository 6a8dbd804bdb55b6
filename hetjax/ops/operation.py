"""Ops that stay one equation in a jaxpr and keep their static arguments, for passes to read.

A jitted function shows up as a sub-jaxpr whose static arguments are gone: of `PackedWeights` only
the leaves remain. An `Operation` is a primitive whose parameters hold the arguments' tree structure
and the keywords, so that a pass recovers exactly what the caller wrote.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir


class Operation:
  """A function of pytrees of arrays as one primitive.

  Runs eagerly, under `jit` and `vmap`, and lowers wherever the function itself does. It is not
  differentiable.

  Attributes:
    primitive: What its equations hold. Their parameters are `tree`, the structure of the positional
      arguments, and `static`, the sorted (name, value) pairs of the keywords.
  """

  def __init__(self, name: str, function: Callable[..., Any]):
    """Makes the primitive.

    Args:
      name: Of the equations.
      function: Takes pytrees of arrays as positional arguments and hashable, static keywords;
        returns a sequence of arrays.
    """
    self._function = function
    self.primitive = Primitive(name)
    self.primitive.multiple_results = True
    self.primitive.def_impl(self._run)
    self.primitive.def_abstract_eval(self._abstract)
    mlir.register_lowering(self.primitive, mlir.lower_fun(self._run, multiple_results=True))
    batching.primitive_batchers[self.primitive] = self._batch

  def __call__(self, *args: Any, **static: Any) -> list[jax.Array]:
    """The function's arrays."""
    operands, parameters = self.equation(args, static)
    return self.primitive.bind(*operands, **parameters)

  def equation(self, args: Sequence[Any], static: dict[str, Any]) -> tuple[list, dict[str, Any]]:
    """Operands and parameters of a call's equation; the leaves of `args` need not be arrays."""
    operands, tree = jax.tree.flatten(tuple(args))
    return operands, {"tree": tree, "static": tuple(sorted(static.items()))}

  def arguments(self, operands: Sequence[Any], parameters: dict[str, Any]) -> tuple[tuple, dict]:
    """Positional arguments and keywords of an equation; the inverse of `equation`."""
    return jax.tree.unflatten(parameters["tree"], operands), dict(parameters["static"])

  def _run(self, *operands: Any, **parameters: Any) -> list:
    args, static = self.arguments(operands, parameters)
    return list(self._function(*args, **static))

  def _abstract(self, *avals: Any, **parameters: Any) -> list:
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals]
    out = jax.eval_shape(lambda *a: self._run(*a, **parameters), *shapes)
    return [jax.core.ShapedArray(s.shape, s.dtype) for s in out]

  def _batch(self, operands: Sequence[Any], axes: Sequence[Any], **parameters: Any):
    out = jax.vmap(lambda *a: self._run(*a, **parameters), in_axes=tuple(axes))(*operands)
    return out, [0] * len(out)
