"""The engine's shared library: found, loaded and registered with XLA once per process."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

import jax
import numpy as np

LIBRARY_VARIABLE = "HETJAX_CPU_LIBRARY"
TARGETS = (
  "hetjax_relayout",
  "hetjax_quantize_pack",
  "hetjax_conv",
  "hetjax_float_conv",
  "hetjax_float_quantizer",
  "hetjax_max_pool",
)
_ERROR_BYTES = 512


def path() -> Path:
  """The library's file: the one that `HETJAX_CPU_LIBRARY` names, or the package's own."""
  named = os.environ.get(LIBRARY_VARIABLE)
  return Path(named) if named else Path(__file__).parent / "libhetjax_cpu.so"


@functools.cache
def load() -> ctypes.CDLL | str:
  """The loaded library with its targets registered, or the reason why there is none."""
  file = path()
  if not file.is_file():
    return f"the engine is not built: {file.name} is missing ({file.parent})"
  try:
    library = ctypes.CDLL(str(file))
    # Handlers that this jaxlib refuses are refused here, and not when its CPU backend starts, which
    # they would keep from starting.
    jax.devices("cpu")
    for target in TARGETS:
      handler = jax.ffi.pycapsule(getattr(library, target))
      jax.ffi.register_ffi_target(target, handler, platform="cpu")
    library.hetjax_cpu_compiler.restype = ctypes.c_char_p
    library.hetjax_cpu_isas.restype = ctypes.c_char_p
    library.hetjax_cpu_forced_isa.restype = ctypes.c_char_p
  except (OSError, AttributeError, RuntimeError) as error:
    return f"the engine {file} cannot be loaded: {error}"
  return library


def require() -> ctypes.CDLL:
  """The loaded library.

  Raises:
    RuntimeError: it cannot be loaded; the message says why.
  """
  library = load()
  if isinstance(library, str):
    raise RuntimeError(library)
  return library


def call(function: str, *arguments) -> None:
  """Calls a function of the C interface that reports errors.

  Raises:
    RuntimeError: it failed, with its message.
  """
  message = ctypes.create_string_buffer(_ERROR_BYTES)
  size = ctypes.c_int64(_ERROR_BYTES)
  if getattr(require(), function)(*arguments, message, size):
    raise RuntimeError(message.value.decode())


class LayerStruct(ctypes.Structure):
  """`hetjax_cpu_layer` of core/hetjax_cpu.h."""

  _fields_ = (
    ("bits", ctypes.c_void_p),
    ("channels", ctypes.c_int64),
    ("levels", ctypes.c_void_p),
    ("num_levels", ctypes.c_int64),
    ("groups", ctypes.c_int64),
    ("kernel_height", ctypes.c_int64),
    ("kernel_width", ctypes.c_int64),
    ("outputs", ctypes.c_int64),
  )


def layer_struct(
  bits: np.ndarray, levels: np.ndarray, groups: int, kh: int, kw: int, outputs: int
) -> LayerStruct:
  """A layer for the C interface; `bits` and `levels` are int32 and kept alive by the result."""
  layer = LayerStruct(
    bits.ctypes.data, bits.size, levels.ctypes.data, levels.size, groups, kh, kw, outputs
  )
  layer.keep = (bits, levels)
  return layer


def storage_bytes(*layer) -> int:
  """Bytes of a layer's prepared weights; arguments as `layer_struct`.

  Raises:
    RuntimeError: the engine is not available or refuses the layer.
  """
  size = ctypes.c_int64()
  call("hetjax_cpu_storage_bytes", ctypes.byref(layer_struct(*layer)), ctypes.byref(size))
  return size.value


LIMITED_ISAS = ("avx2", "avx2_vnni", "avx512", "avx512_vnni", "amx")
LIMIT_LEVELS = (1, 2, 4, 8, 32)


def instruction_limit(isa: str, level: int, seconds: float = 0.2) -> float:
  """Multiply-accumulates a second that one thread's instructions allow at most.

  Args:
    isa: An instruction set that can run here.
    level: 1, 2, 4 or 8 bits; 32 for float32 by fused multiply-adds.
    seconds: For how long to measure, on registers alone; the best run counts.

  Raises:
    RuntimeError: the engine is not available, or there is no such limit.
  """
  rate = ctypes.c_double()
  call(
    "hetjax_cpu_limit", isa.encode(), ctypes.c_int32(level), ctypes.c_double(seconds),
    ctypes.byref(rate),
  )  # fmt: skip
  return rate.value
