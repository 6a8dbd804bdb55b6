"""Networks as `jax.export` artifacts, which another process runs without the model's code."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export as jax_export

import pallas_kernels
from hetjax import xla_cpu
from hetjax.core.files import write_atomically
from hetjax.xla_cpu import library

_PLATFORMS = ("cpu", "cuda")


def export(
  function: Callable[[jax.Array], Any],
  example_shape: Sequence[int | str],
  path: str | os.PathLike[str],
  *,
  dtype: Any = jnp.float32,
  platforms: Sequence[str] | None = None,
) -> None:
  """Writes a function as a `jax.export` artifact, weights included.

  An artifact that runs on the CPU engine holds weights laid out for the instruction set that is in
  use now, and runs where that one does. One for CPU and GPUs holds a network of implementation
  "reference" or "triton", the latter at fixed sizes. The GPU need not be here; the network is then
  made and exported within `pallas_kernels.interpreted()`.

  Args:
    function: Of one array, such as what `compile` and `load` return.
    example_shape: Shape of its input. A size may be a name, such as "b": the artifact then takes
      any such size.
    path: The file; it is replaced as a whole or not at all.
    dtype: Of the input.
    platforms: On which it is to run, of "cpu" and "cuda"; None for the one that jax runs on.

  Raises:
    ValueError: a size is neither a positive integer nor a name, a platform is unknown, or the
      function calls the CPU engine and is to run elsewhere too.
    ImportError: jax lacks the package that it serializes with.
    OSError: the file cannot be written.
  """
  for size in example_shape:
    if not (isinstance(size, str) and size.isidentifier()) and not _is_positive(size):
      raise ValueError(f"example_shape must hold positive integers and names, got {size!r}")
  shape = jax_export.symbolic_shape(", ".join(map(str, example_shape)))
  if platforms is not None and (
    isinstance(platforms, str) or not platforms or not set(platforms) <= set(_PLATFORMS)
  ):
    raise ValueError(f"platforms must be a sequence of some of {_PLATFORMS}, got {platforms!r}")
  calls = (*library.TARGETS, *pallas_kernels.CALLS.values())
  checks = [jax_export.DisabledSafetyCheck.custom_call(name) for name in calls]
  has_gpu = jax.default_backend() == "gpu"
  elsewhere = "cuda" in (platforms or ()) and not has_gpu
  there = pallas_kernels.lowering_for(pallas_kernels.CHIPS["a100"])
  with there if elsewhere else contextlib.nullcontext():
    exported = jax_export.export(jax.jit(function), disabled_checks=checks, platforms=platforms)(
      jax.ShapeDtypeStruct(shape, dtype)
    )
  if "cuda" in exported.platforms and _calls_engine(exported):
    raise ValueError(
      "a function that calls the CPU engine cannot be exported for platforms "
      f"{tuple(platforms)}; compile it with implementation 'reference' or 'triton'"
    )
  write_atomically(path, bytes(exported.serialize()))


def load_exported(path: str | os.PathLike[str]) -> Callable[[jax.Array], Any]:
  """The function of an artifact that `export` wrote; usable under `jit`.

  Raises:
    ValueError: the file is no `jax.export` artifact, or was exported for another platform.
    RuntimeError: it calls the CPU engine, which cannot run here.
    OSError: the file cannot be read.
  """
  data = Path(path).read_bytes()
  try:
    exported = jax_export.deserialize(bytearray(data))
  except ImportError:  # jax says which package it lacks
    raise
  except Exception as error:  # flatbuffers raises whatever malformed bytes lead to
    raise ValueError(f"{os.fspath(path)} is not a jax.export artifact: {error}") from error
  platform = jax.default_backend()
  if platform not in exported.platforms:
    raise ValueError(
      f"{os.fspath(path)} was exported for {exported.platforms}, jax runs on {platform!r}"
    )
  if _calls_engine(exported):
    available, reason = xla_cpu.available()  # registers the engine's calls with XLA
    if not available:
      raise RuntimeError(f"{os.fspath(path)} calls the CPU engine, which cannot run: {reason}")
  return jax.jit(exported.call)


def _calls_engine(exported: jax_export.Exported) -> bool:
  return any(name.encode() in exported.mlir_module_serialized for name in library.TARGETS)


def _is_positive(size: Any) -> bool:
  return isinstance(size, int) and not isinstance(size, bool) and size > 0
