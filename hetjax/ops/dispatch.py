"""Which implementation runs an op."""

from __future__ import annotations

import jax

import pallas_kernels
from hetjax import xla_cpu

GPU = ("triton", "mosaic_gpu")
IMPLEMENTATIONS = ("reference", "xla_cpu", *GPU)


class ImplementationUnavailable(RuntimeError):
  """A named implementation cannot run here; the message says why."""


def implementations() -> dict[str, str]:
  """Every implementation with "" if it can run here, else the reason why not."""
  platform = jax.default_backend()
  available, reason = xla_cpu.available()
  if available and platform != "cpu":
    reason = f"jax's default backend is {platform!r}, not 'cpu'"
  on_gpu = {name: pallas_kernels.available(name)[1] for name in GPU}
  return {"reference": "", "xla_cpu": reason, **on_gpu}


def resolve(implementation: str | None) -> str:
  """The implementation to run: the named one, or for None the best that can run here.

  Those for GPUs run only if they are named, until their numbers have been seen on one.

  Raises:
    ValueError: an unknown name.
    ImplementationUnavailable: a known one that cannot run here.
  """
  if implementation is not None and implementation not in IMPLEMENTATIONS:
    raise ValueError(
      f"implementation must be None or one of {IMPLEMENTATIONS}, got {implementation!r}"
    )
  reasons = implementations()
  if implementation is None:
    return "reference" if reasons["xla_cpu"] else "xla_cpu"
  if reasons[implementation]:
    raise ImplementationUnavailable(
      f"implementation {implementation!r} cannot run: {reasons[implementation]}"
    )
  return implementation
