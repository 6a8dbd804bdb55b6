"""Options and settings that hold for every test."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

import hypothesis

# Workers, and the processes that tests start, compile each program once between them. A directory
# of one's own, named in the environment, is kept.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
  os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="hetjax-tests-")
  os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
  atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

# The same examples on every run: a failure is the change's, never the dice's.
hypothesis.settings.register_profile("hetjax", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("hetjax")


def pytest_addoption(parser):
  parser.addoption(
    "--install",
    action="store_true",
    help="run only the tests that install the package into fresh environments (minutes, network)",
  )
  parser.addoption(
    "--every-case",
    action="store_true",
    help="run the contract's every case on interpreted kernels too, not some of them (minutes)",
  )


def pytest_collection_modifyitems(config, items):
  """Keeps installing out of `make test`, and everything else out of the installation checks; and
  out of both what `make verify-gpu` runs."""
  wanted, everything = config.getoption("--install"), config.getoption("--every-case")
  kept, dropped = [], []
  for item in items:
    chosen = (item.get_closest_marker("install") is not None) == wanted
    chosen &= everything or item.get_closest_marker("every_case") is None
    (kept if chosen else dropped).append(item)
  items[:] = kept
  if dropped:
    config.hook.pytest_deselected(items=dropped)
