"""The backend that a test of the contract runs on."""

import collections
import zlib

import pytest

from tests.shared.backends import backends

# Of kernels that are interpreted a case takes a second. Unless --every-case asks for all, as
# `make verify-gpu` does, one of so many parametrizations of a test is kept, and of the cases within
# it one of so many; and only of "triton", whose kernels run for "mosaic_gpu" too when interpreted.
KEPT_TESTS, KEPT_CASES = 16, 16


def pytest_collection_modifyitems(config, items):
  """Drops tests on slow backends: see `KEPT_TESTS`."""
  if config.getoption("--every-case"):
    return
  seen, dropped = collections.Counter(), []
  for item in items:
    backend = getattr(item, "callspec", None) and item.callspec.params.get("backend")
    if backend and backend.is_slow:
      if seen[item.originalname] % KEPT_TESTS or backend.implementation != "triton":
        dropped.append(item)
      seen[item.originalname] += backend.implementation == "triton"
  if dropped:
    items[:] = [item for item in items if item not in dropped]
    config.hook.pytest_deselected(items=dropped)


@pytest.fixture(params=backends(), ids=str)
def backend(request):
  """One backend, its instruction set forced for the test's duration."""
  with request.param.forced():
    yield request.param


@pytest.fixture
def some(request, backend):
  """Cuts lists of cases for slow backends: see `KEPT_CASES`. Each test begins with another one."""
  if not backend.is_slow or request.config.getoption("--every-case"):
    return lambda cases: cases
  first = zlib.crc32(request.node.name.encode()) % KEPT_CASES
  return lambda cases: cases[first % len(cases) :: KEPT_CASES]
