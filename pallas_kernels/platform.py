"""A kernel compiled where a program is lowered for CUDA, and interpreted where for CPU.

`lax.platform_dependent` would do for programs of one platform. In one for several, such as
`jax.export` makes, it lowers each branch for all of them; a primitive's rules are for one each.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from pallas_kernels.support import by_triton

_KERNEL = Primitive("pallas_kernel")


@dataclasses.dataclass(frozen=True)
class Kernel:
  """A function of arrays, its settings and `interpret`; equal ones are compiled once.

  Attributes:
    function: Takes arrays, then `*settings` and `interpret` as keywords by name.
    settings: Sorted (name, value) pairs.
    mapped: Axes of the arrays that are mapped over, for each `vmap` around it, innermost first.
    one_by_one: Whether `vmap` calls the kernel for one after the other.
  """

  function: Callable[..., jax.Array]
  settings: tuple[tuple[str, Hashable], ...]
  mapped: tuple[tuple[int | None, ...], ...] = ()
  one_by_one: bool = False

  def __call__(self, *arrays: jax.Array, interpret: bool) -> jax.Array:
    """The kernel's result."""
    run = functools.partial(self.function, **dict(self.settings), interpret=interpret)
    for axes in self.mapped:
      run = jax.vmap(run, in_axes=axes)
    return run(*arrays)


def on_its_platform(
  function: Callable[..., jax.Array],
  *arrays: jax.Array,
  one_by_one: bool = False,
  **settings: Hashable,
) -> jax.Array:
  """`function(*arrays, **settings, interpret=...)`, as the platform has it."""
  kernel = Kernel(function, tuple(sorted(settings.items())), one_by_one=one_by_one)
  return _KERNEL.bind(*arrays, kernel=kernel)


@_KERNEL.def_abstract_eval
def _abstract(*avals, kernel):
  shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals]
  out = jax.eval_shape(functools.partial(kernel, interpret=True), *shapes)
  return ShapedArray(out.shape, out.dtype)


@_KERNEL.def_impl
def _run(*arrays, kernel):
  return _compiled_once(kernel)(*arrays)


@functools.lru_cache(maxsize=256)
def _compiled_once(kernel):
  return jax.jit(functools.partial(_KERNEL.bind, kernel=kernel))


def _batch(arrays, axes, *, kernel):
  (size,) = {a.shape[x] for a, x in zip(arrays, axes, strict=True) if x is not None}
  if not size:
    one = [
      jax.ShapeDtypeStruct(a.shape if x is None else a.shape[:x] + a.shape[x + 1 :], a.dtype)
      for a, x in zip(arrays, axes, strict=True)
    ]
    out = jax.eval_shape(functools.partial(kernel, interpret=True), *one)
    return jnp.zeros((0, *out.shape), out.dtype), 0
  if not kernel.one_by_one:
    axes = tuple(None if x is None else int(x) for x in axes)
    mapped = dataclasses.replace(kernel, mapped=(*kernel.mapped, axes))
    return _KERNEL.bind(*arrays, kernel=mapped), 0

  def single(i):
    take = lambda a, x: a if x is None else lax.dynamic_index_in_dim(a, i, x, keepdims=False)
    return _KERNEL.bind(*map(take, arrays, axes), kernel=kernel)

  return lax.map(single, jnp.arange(size)), 0


batching.primitive_batchers[_KERNEL] = _batch


def _interpreted(ctx, *operands, kernel):
  return _lower(kernel, True)(ctx, *operands)


def _compiled(ctx, *operands, kernel):
  # What is lowered within this rule is for CUDA alone, whatever else the program is for.
  here = ctx.module_context.replace(platforms=("cuda",))
  with by_triton():
    return _lower(kernel, False)(ctx.replace(module_context=here), *operands)


def _lower(kernel, interpret):
  return mlir.lower_fun(functools.partial(kernel, interpret=interpret), multiple_results=False)


mlir.register_lowering(_KERNEL, _interpreted, platform="cpu")
mlir.register_lowering(_KERNEL, _compiled, platform="cuda")
