"""The backend that a test of the contract runs on."""

import zlib

import pytest

from tests.shared.backends import backends

STRIDE = 8


@pytest.fixture(params=backends(), ids=str)
def backend(request):
  """One backend, its instruction set forced for the test's duration."""
  with request.param.forced():
    yield request.param


@pytest.fixture
def some(request, backend):
  """Cuts lists of cases for backends on which each takes a second: see --every-case.

  Which are left differs between the tests of a parametrized one, so that all kinds occur.
  """
  everything = not backend.is_slow or request.config.getoption("--every-case")
  first = zlib.crc32(request.node.name.encode()) % STRIDE
  return (lambda cases: cases) if everything else lambda cases: cases[first % len(cases) :: STRIDE]
