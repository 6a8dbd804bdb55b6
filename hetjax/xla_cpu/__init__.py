"""CPU engine: C++ kernels on the XLA FFI, chosen at run time by instruction set.

Instruction sets are those of `ISAS`, slowest first. The best one that the machine has runs unless
the environment variable `HETJAX_CPU_ISA` or `force_isa` names another.
"""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator

from hetjax.xla_cpu import library

ISAS = ("scalar", "avx2", "avx2_vnni", "avx512", "avx512_vnni", "amx", "neon_dotprod")

__all__ = ["ISAS", "active_isa", "available", "compiler", "force_isa", "isas", "weight_format"]


def available() -> tuple[bool, str]:
  """Whether the engine can run, and "" or the reason why not."""
  loaded = library.load()
  return (False, loaded) if isinstance(loaded, str) else (True, "")


def compiler() -> str:
  """Name and version of the compiler that built the engine.

  Raises:
    RuntimeError: the engine is not available.
  """
  return library.require().hetjax_cpu_compiler().decode()


def isas() -> tuple[str, ...]:
  """Instruction sets that can run here, slowest first.

  Raises:
    RuntimeError: the engine is not available.
  """
  return tuple(library.require().hetjax_cpu_isas().decode().split(","))


def active_isa() -> str:
  """The instruction set whose kernels run now.

  Raises:
    RuntimeError: the engine is not available, or `HETJAX_CPU_ISA` names an instruction set that
      cannot run here.
  """
  name = ctypes.c_char_p()
  library.call("hetjax_cpu_active_isa", ctypes.byref(name))
  return name.value.decode()


def weight_format() -> str:
  """Name of the layout in which the kernels that run now read weights.

  Raises:
    RuntimeError: as `active_isa`.
  """
  name = ctypes.c_char_p()
  library.call("hetjax_cpu_format", ctypes.byref(name))
  return name.value.decode()


@contextlib.contextmanager
def force_isa(name: str) -> Iterator[None]:
  """Runs the kernels of one instruction set within the context, in the whole process.

  JAX runs computations asynchronously: wait for results (`block_until_ready`) before leaving.

  Raises:
    RuntimeError: the engine is not available, or the machine lacks the instruction set.
  """
  previous = library.require().hetjax_cpu_forced_isa()
  library.call("hetjax_cpu_force_isa", name.encode())
  try:
    yield
  finally:
    library.call("hetjax_cpu_force_isa", previous)
