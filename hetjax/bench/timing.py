"""Fair timing on a noisy machine: peers take turns in one run, medians are compared."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping

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
  out = {}
  for name, values in taken.items():
    low, median, high = np.percentile(values, (25, 50, 75))
    out[name] = Timing(float(median), float(low), float(high), rounds)
  return out
