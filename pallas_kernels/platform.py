"""A kernel compiled where a program is lowered for CUDA, and interpreted where for anything else.

`lax.platform_dependent` would do for programs of one platform. In one for several, such as
`jax.export` makes, it lowers each branch for all of them; a primitive's rules are for one each.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

Kernel = Callable[..., jax.Array]  # of arrays, and `interpret` as a keyword

_KERNEL = Primitive("pallas_kernel")


def on_its_platform(kernel: Kernel, *arrays: jax.Array, one_by_one: bool = False) -> jax.Array:
  """`kernel(*arrays, interpret=...)`, as the platform has it; under `vmap` perhaps one by one."""
  return _KERNEL.bind(*arrays, kernel=kernel, one_by_one=one_by_one)


@_KERNEL.def_abstract_eval
def _abstract(*avals, kernel, one_by_one):
  shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals]
  out = jax.eval_shape(functools.partial(kernel, interpret=True), *shapes)
  return ShapedArray(out.shape, out.dtype)


@_KERNEL.def_impl
def _run(*arrays, **parameters):
  return jax.jit(functools.partial(_KERNEL.bind, **parameters))(*arrays)


def _batch(arrays, axes, *, kernel, one_by_one):
  if one_by_one:
    (size,) = {a.shape[axis] for a, axis in zip(arrays, axes, strict=True) if axis is not None}
    take = lambda i: [
      a if axis is None else jax.lax.dynamic_index_in_dim(a, i, axis, keepdims=False)
      for a, axis in zip(arrays, axes, strict=True)
    ]
    single = functools.partial(_KERNEL.bind, kernel=kernel, one_by_one=True)
    return jax.lax.map(lambda i: single(*take(i)), jax.numpy.arange(size)), 0

  def mapped(*arrays, interpret):
    return jax.vmap(functools.partial(kernel, interpret=interpret), in_axes=axes)(*arrays)

  return _KERNEL.bind(*arrays, kernel=mapped, one_by_one=False), 0


batching.primitive_batchers[_KERNEL] = _batch


def _interpreted(ctx, *operands, kernel, one_by_one):
  del one_by_one
  return _lower(kernel, True)(ctx, *operands)


def _compiled(ctx, *operands, kernel, one_by_one):
  del one_by_one
  # What is lowered within this rule is for CUDA alone, whatever else the program is for.
  here = ctx.module_context.replace(platforms=("cuda",))
  return _lower(kernel, False)(ctx.replace(module_context=here), *operands)


def _lower(kernel, interpret):
  return mlir.lower_fun(functools.partial(kernel, interpret=interpret), multiple_results=False)


mlir.register_lowering(_KERNEL, _interpreted)
mlir.register_lowering(_KERNEL, _compiled, platform="cuda")
