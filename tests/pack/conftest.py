"""The golden network, made by the script that is checked in beside it."""

import importlib.util
import pathlib

import pytest

from hetjax.pack import narrow, to_bytes

SCRIPT = pathlib.Path(__file__).parent / "make_golden.py"


@pytest.fixture(scope="session")
def golden():
  """The module make_golden."""
  spec = importlib.util.spec_from_file_location("make_golden", SCRIPT)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture(scope="session")
def sample(golden):
  """A small artifact with every kind of layer."""
  return golden.network()


@pytest.fixture(scope="session")
def sample_bytes(sample):
  return to_bytes(sample)


@pytest.fixture(scope="session")
def half_bytes(sample):
  """The sample with every leaf in half precision, a file of version 2."""
  return to_bytes(narrow(sample))


@pytest.fixture(params=["version 1", "version 2"])
def any_bytes(request, sample_bytes, half_bytes):
  """The sample as a file of each version."""
  return sample_bytes if request.param == "version 1" else half_bytes
