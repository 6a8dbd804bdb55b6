"""What the engine's tests share."""

import pytest

from hetjax import xla_cpu


def every_isa():
  """The paths that this machine runs, and the portable one in any case."""
  available, _ = xla_cpu.available()
  return xla_cpu.isas() if available else ("scalar",)


@pytest.fixture(params=every_isa())
def isa(request):
  with xla_cpu.force_isa(request.param):
    assert xla_cpu.active_isa() == request.param
    yield request.param
