"""Every backend that this machine can run, each CPU instruction set a backend of its own."""

import contextlib
import dataclasses

import jax
import pytest

import pallas_kernels
from hetjax import xla_cpu
from hetjax.ops import dispatch


@dataclasses.dataclass(frozen=True)
class Backend:
  """An implementation under one instruction set."""

  implementation: str
  isa: str | None = None

  def __str__(self) -> str:
    return self.implementation if self.isa is None else f"{self.implementation}-{self.isa}"

  @property
  def is_slow(self) -> bool:
    """Whether its kernels are interpreted here."""
    return self.implementation in dispatch.GPU and jax.default_backend() == "cpu"

  def forced(self):
    """Context in which the backend's own instruction set runs, or in which it is interpreted."""
    if self.is_slow:
      return pallas_kernels.interpreted()
    return xla_cpu.force_isa(self.isa) if self.isa else contextlib.nullcontext()


def backends() -> list[Backend]:
  """The reference, the GPU's kernels, and the CPU engine once per instruction set."""
  found = [Backend("reference")]
  with pallas_kernels.interpreted() if jax.default_backend() == "cpu" else contextlib.nullcontext():
    found += [Backend(name) for name in dispatch.GPU if not dispatch.implementations()[name]]
  if xla_cpu.available()[0]:
    found += [Backend("xla_cpu", isa) for isa in xla_cpu.isas()]
  return found


def parameters() -> list:
  """`backends` as a test's parameters, slow ones where every case is asked for."""
  slow = pytest.mark.every_case
  return [pytest.param(b, id=str(b), marks=[slow] if b.is_slow else []) for b in backends()]
