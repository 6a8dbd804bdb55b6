"""The backend that a test of the contract runs on."""

import pytest

from tests.shared.backends import backends


@pytest.fixture(params=backends(), ids=str)
def backend(request):
  """One backend, its instruction set forced for the test's duration."""
  with request.param.forced():
    yield request.param
