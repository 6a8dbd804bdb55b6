"""Whether the kernels can run here."""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import warnings
from collections.abc import Iterator

import jax

LEAST_KIND = "NVIDIA A100-SXM4-80GB"  # of the least capability
TRITON_CALL = "__gpu$xla.gpu.triton"  # what calls the kernels in a module
LEAST_CAPABILITY = (8, 0)  # int8 matrix instructions of 32 codes, asynchronous copies

_interpreted = contextvars.ContextVar("pallas_kernels_interpreted", default=False)


def available() -> tuple[bool, str]:
  """Whether the kernels can run here, and "" or the reason why not."""
  platform = jax.default_backend()
  is_interpreted = platform == "cpu" and _interpreted.get()
  if platform != "gpu" and not is_interpreted:
    return False, f"jax's default backend is {platform!r}, not 'gpu'"
  try:
    importlib.import_module("jax.experimental.pallas.triton")
  except ImportError as error:
    return False, f"jax {jax.__version__} has no Pallas with Triton's lowering: {error}"
  if is_interpreted:
    return True, ""
  device = jax.devices()[0]
  capability = getattr(device, "compute_capability", None)
  if capability is None or tuple(map(int, str(capability).split("."))) < LEAST_CAPABILITY:
    least = ".".join(map(str, LEAST_CAPABILITY))
    return False, (
      f"{device.device_kind} has compute capability {capability}, the kernels need {least}"
    )
  return True, ""


@contextlib.contextmanager
def lowering_for(device_kind: str) -> Iterator[None]:
  """Lets the kernels be lowered within the context for a GPU that is not there.

  Args:
    device_kind: As jax names the GPU, such as "NVIDIA A100-SXM4-80GB".
  """
  device = jax.sharding.AbstractDevice(device_kind=device_kind, num_cores=None, platform="gpu")
  mesh = jax.sharding.AbstractMesh((), (), abstract_device=device)
  with jax.sharding.use_abstract_mesh(mesh), warnings.catch_warnings():
    # Triton's lowering goes away one day. Until Mosaic's is as good on all chips, it serves.
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
