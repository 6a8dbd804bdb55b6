"""How work is cut into tasks, checked by counting it: for 2 threads here and for 64 elsewhere."""

import ctypes
import heapq

import numpy as np
import pytest

from hetjax.core.palette import Palette
from hetjax.pack import ChannelLayout
from hetjax.xla_cpu import library
from tests.xla_cpu import capi

LAYERS = {
  "56x56x64": (56, 64, 64, 3),
  "28x28x128": (28, 128, 128, 3),
  "14x14x256": (14, 256, 256, 3),
  "7x7x512": (7, 512, 512, 3),
  "1x1 56x56x64 to 256": (56, 64, 256, 1),
  "1x1 7x7x2048 to 512": (7, 2048, 512, 1),
}


def tasks(size: int, channels: int, outputs: int, kernel: int, threads: int) -> list[int]:
  layout = ChannelLayout(tuple(np.resize((1, 1, 1, 2, 4), channels).tolist()), Palette((1, 2, 4)))
  layer = capi.layer_of(layout, (kernel, kernel, channels, outputs))
  pad = kernel // 2
  geometry = capi.Geometry(
    1, size, size, (1, 1), (pad, pad, pad, pad), (1, 1)
  )  # fmt: skip
  work = (ctypes.c_int64 * 4096)()
  count = ctypes.c_int64()
  library.call(
    "hetjax_cpu_tasks", ctypes.byref(layer), ctypes.byref(geometry), ctypes.c_int64(threads), work,
    ctypes.c_int64(len(work)), ctypes.byref(count),
  )  # fmt: skip
  return list(work[: count.value])


def efficiency(work: list[int], threads: int) -> float:
  """Share of the threads' time that is work, when each takes the next task as it gets free."""
  free = [0] * threads
  for each in work:
    heapq.heapreplace(free, free[0] + each)
  return sum(work) / (threads * max(free))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("threads", [1, 2, 3, 6, 8, 12, 64])
def test_tasks_hold_all_the_work_and_share_it_out(name, threads, isa):
  size, channels, outputs, kernel = LAYERS[name]
  work = tasks(size, channels, outputs, kernel, threads)
  assert sum(work) == size * size * outputs
  least = {1: 1.0, 2: 0.9, 3: 0.65, 6: 0.65, 8: 0.75, 12: 0.5, 64: 0.5}[threads]
  if isa == "amx" and size > 14 and threads <= 6:
    least = 0.9  # few tasks, therefore even ones
  assert efficiency(work, threads) >= least, (len(work), efficiency(work, threads))
