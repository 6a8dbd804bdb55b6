"""Compiles functions for GPUs that are not there, with the very compiler that runs on them.

XLA needs a description of the GPU (`chips/`), the CUDA plugin of jax without its libraries, and
NVIDIA's assembler. A process that does this must not have looked for a GPU before: see
`environment`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from jax import export as jax_export
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from pallas_kernels.support import CALLS, CHIPS, lowering_for

TOOLS = ("ptxas", "nvdisasm", "cuobjdump")
_FOLDER = Path(__file__).parent / "chips"


def tools() -> Path:
  """The folder of NVIDIA's programs.

  Raises:
    RuntimeError: one of `TOOLS` or jax's CUDA plugin is not installed.
  """
  if importlib.util.find_spec("jax_cuda13_plugin") is None:
    raise RuntimeError(f"jax's CUDA plugin is not installed: {_INSTALL}")
  spec = importlib.util.find_spec("nvidia")
  roots = [Path(p) / "cu13" / "bin" for p in (spec.submodule_search_locations if spec else ())]
  found = shutil.which("ptxas")
  for folder in [*roots, *([Path(found).parent] if found else [])]:
    if all((folder / tool).exists() for tool in TOOLS):
      return folder
  raise RuntimeError(f"{', '.join(TOOLS)} must lie in one folder, none was found: {_INSTALL}")


_INSTALL = "pip install 'hetjax[gpu-verify]', or in a checkout make verify-gpu"


def environment() -> dict[str, str]:
  """Environment variables of a process that compiles.

  Raises:
    RuntimeError: as `tools`.
  """
  folder = tools()
  flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_cuda_data_dir={folder.parent}"
  # The platform is named so that the plugin is registered without a look at drivers.
  path = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"
  return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags.strip(), "PATH": path}


def exported(function: Callable[..., Any], args: Sequence[Any], chip: str) -> str:
  """The module that `jax.export` makes of a function for CUDA, as text."""
  checks = [jax_export.DisabledSafetyCheck.custom_call(name) for name in CALLS.values()]
  with lowering_for(CHIPS[chip]):
    made = jax_export.export(jax.jit(function), platforms=["cuda"], disabled_checks=checks)(*args)
  return made.mlir_module()


def compiled(function: Callable[..., Any], args: Sequence[Any], chip: str) -> bytes:
  """A function as a serialized executable.

  Args:
    function: Of arrays.
    args: Their `jax.ShapeDtypeStruct`s.
    chip: One of `CHIPS`.
  """
  description = (_FOLDER / f"{chip}.txtpb").read_text(encoding="utf-8")
  topology = topologies.get_topology_desc(
    "1x1x1", platform="cuda", topology="1x1x1", target_config=description
  )
  sharding = SingleDeviceSharding(topology.devices[0])
  placed = [jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding) for a in args]
  with lowering_for(CHIPS[chip]):
    traced = jax.jit(function, out_shardings=sharding).trace(*placed)
    executable = traced.lower(lowering_platforms=("cuda",)).compile()
  return executable.runtime_executable().serialize()
