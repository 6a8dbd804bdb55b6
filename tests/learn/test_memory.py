"""Keeping memory from step to step."""

import subprocess
import sys

import pytest

# Page faults of a process that allocates and frees a block in turn, with and without.
SCRIPT = """
import ctypes, resource, sys
from hetjax.learn.memory import keep_memory
if sys.argv[1] == "keep" and not keep_memory():
  raise SystemExit(3)
c = ctypes.CDLL(None)
c.malloc.restype, c.free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
  block = c.malloc(64 << 20)
  ctypes.memset(block, 1, 64 << 20)
  c.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how):
  result = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True)
  if result.returncode == 3:
    pytest.skip("not the GNU C library")
  assert result.returncode == 0, result.stderr
  return int(result.stdout)


def test_memory_is_not_taken_anew_in_every_step():
  assert _faults("keep") * 5 < _faults("default")
