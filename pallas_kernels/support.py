"""Whether the kernels can run here."""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import re
import warnings
from collections.abc import Iterator

import jax

# GPUs that kernels are compiled for where there is none, as jax names them.
CHIPS = {
  "a100": "NVIDIA A100-SXM4-80GB",
  "l4": "NVIDIA L4",  # the least shared memory: RTX 40 have as much
  "h100": "NVIDIA H100 80GB HBM3",
}
CALLS = {"triton": "__gpu$xla.gpu.triton", "mosaic_gpu": "mosaic_gpu_v2"}  # of kernels in a module
# Compute capabilities: int8 matrix instructions and asynchronous copies from Ampere on; of Mosaic's
# kernel, Hopper's own.
CAPABILITIES = {"triton": ((8, 0), None), "mosaic_gpu": ((9, 0), (9, 0))}
MODULES = {
  "triton": "jax.experimental.pallas.triton",
  "mosaic_gpu": "jax.experimental.pallas.mosaic_gpu",
}
LEAST_JAX = {"mosaic_gpu": (0, 12)}

_interpreted = contextvars.ContextVar("pallas_kernels_interpreted", default=False)


def available(implementation: str = "triton") -> tuple[bool, str]:
  """Whether an implementation's kernels can run here, and "" or the reason why not."""
  platform = jax.default_backend()
  is_interpreted = platform == "cpu" and _interpreted.get()
  if platform != "gpu" and not is_interpreted:
    return False, f"jax's default backend is {platform!r}, not 'gpu'"
  least = LEAST_JAX.get(implementation, (0, 0))
  if jax.__version_info__[: len(least)] < least:
    return False, f"needs jax {'.'.join(map(str, least))}, this is {jax.__version__}"
  try:
    importlib.import_module(MODULES[implementation])
  except ImportError as error:
    return False, f"jax {jax.__version__} has no {MODULES[implementation]}: {error}"
  if is_interpreted:
    return True, ""
  least, most = CAPABILITIES[implementation]
  device = jax.devices()[0]
  capability = str(getattr(device, "compute_capability", None))
  if not re.fullmatch(r"\d+\.\d+", capability):
    return False, f"{device.device_kind} is no NVIDIA GPU (compute capability {capability})"
  have = tuple(map(int, capability.split(".")))
  if have < least or (most is not None and have > most):
    wanted = ".".join(map(str, least)) + ("" if most else " or more")
    return False, f"{device.device_kind} has compute capability {capability}, it needs {wanted}"
  return True, ""


@contextlib.contextmanager
def lowering_for(device_kind: str) -> Iterator[None]:
  """Lets the kernels be lowered within the context for a GPU that is not there.

  Args:
    device_kind: As jax names the GPU, such as "NVIDIA A100-SXM4-80GB".
  """
  device = jax.sharding.AbstractDevice(device_kind=device_kind, num_cores=None, platform="gpu")
  mesh = jax.sharding.AbstractMesh((), (), abstract_device=device)
  with jax.sharding.use_abstract_mesh(mesh), by_triton():
    yield


@contextlib.contextmanager
def by_triton() -> Iterator[None]:
  """Lowers by Triton without the warning that this goes away one day.

  Until Mosaic's lowering is as good on all chips, it serves.
  """
  with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "The Pallas Triton backend is deprecated")
    yield


@contextlib.contextmanager
def interpreted() -> Iterator[None]:
  """Lets the kernels run on CPU within the context, interpreted operation by operation.

  For tests and for looking into them: they take thousands of times as long as on a GPU.
  """
  token = _interpreted.set(True)
  try:
    yield
  finally:
    _interpreted.reset(token)
