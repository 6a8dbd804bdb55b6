"""Fair timing on a noisy machine: peers take turns in one run, medians are compared."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Timing:
  """Seconds of one function.

  Attributes:
    median: Median over the repeats, in seconds.
    low: First quartile, in seconds.
    high: Third quartile, in seconds.
    repeats: How many were taken.
  """

  median: float
  low: float
  high: float
  repeats: int

  @property
  def microseconds(self) -> float:
    """The median in microseconds."""
    return 1e6 * self.median


def _others_running() -> bool:
  """Whether a thread of this process other than the calling one runs or waits for a processor."""
  mine = str(threading.get_native_id())
  for task in Path("/proc/self/task").iterdir():
    if task.name == mine:
      continue
    try:
      stat = (task / "stat").read_text()
    except OSError:  # it has ended
      continue
    if stat[stat.rindex(")") + 2] == "R":
      return True
  return False


def settle(longest: float = 0.5) -> None:
  """Waits until this process's own threads rest.

  Thread pools spin for a while after their work. On few cores that would be charged to whoever
  runs next, so turns begin when no other thread ran at any of three looks, or after `longest`
  seconds. Processor time would not tell: the kernel accounts that of other threads only every few
  milliseconds.
  """
  begun, quiet = time.perf_counter(), 0
  while quiet < 3 and time.perf_counter() - begun < longest:
    time.sleep(0.0003)
    quiet = 0 if _others_running() else quiet + 1


def bursts(
  functions: Mapping[str, Callable[[], object]],
  *,
  seconds: float = 2.0,
  burst: float = 0.01,
  least: int = 5,
) -> dict[str, Timing]:
  """Times functions of different engines in turn, in bursts of calls.

  A turn waits until all threads rest (`settle`), makes one call that is not timed, so that every
  engine finds caches and threads as its own previous call left them, and then times single calls
  for `burst` seconds, at least two.

  Args:
    functions: Name -> function without arguments that returns when its work is done.
    seconds: Time in total, all functions together.
    burst: Seconds of a turn.
    least: Least number of turns of each, whatever the time.

  Returns:
    Name -> Timing over all timed calls.
  """
  taken: dict[str, list[float]] = {name: [] for name in functions}
  begun, rounds = time.perf_counter(), 0
  while rounds < least or time.perf_counter() - begun < seconds:
    for name, run in functions.items():
      settle()
      run()
      first, calls = time.perf_counter(), 0
      while calls < 2 or time.perf_counter() - first < burst:
        start = time.perf_counter()
        run()
        taken[name].append(time.perf_counter() - start)
        calls += 1
    rounds += 1
  return {name: _timing(values) for name, values in taken.items()}


def _timing(values: Sequence[float]) -> Timing:
  low, median, high = np.percentile(values, (25, 50, 75))
  return Timing(float(median), float(low), float(high), len(values))


def interleaved(
  functions: Mapping[str, Callable[[], jax.Array]], *, seconds: float = 2.0, least: int = 11
) -> dict[str, Timing]:
  """Times functions in turn until their time is used up.

  Args:
    functions: Name -> function without arguments; what it returns is waited for. Each is called
      three times before the clock starts, so compilation and first touches are not timed.
    seconds: Time in total, after warm-up.
    least: Least repeats of each, whatever the time.

  Returns:
    Name -> Timing over the repeats, which all functions share.
  """
  for run in functions.values():
    for _ in range(3):
      jax.block_until_ready(run())
  taken: dict[str, list[float]] = {name: [] for name in functions}
  begun, rounds = time.perf_counter(), 0
  while rounds < least or time.perf_counter() - begun < seconds:
    for name, run in functions.items():
      start = time.perf_counter()
      jax.block_until_ready(run())
      taken[name].append(time.perf_counter() - start)
    rounds += 1
  return {name: _timing(values) for name, values in taken.items()}
