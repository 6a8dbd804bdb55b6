"""What this machine can do at most: bandwidths, float32 products, the cost of a call."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np

from hetjax import xla_cpu
from hetjax.bench.rows import Row, number
from hetjax.bench.timing import Timing, bursts
from hetjax.report import Column
from hetjax.xla_cpu import library

COLUMNS = (
  Column("limit", "limit"),
  Column("threads", "threads"),
  Column("value", "value", number),
  Column("low", "25 %", number),
  Column("high", "75 %", number),
  Column("unit", "unit"),
)
# Working sets in the middle of what typical caches hold, and far beyond any.
PLACES = {"second-level cache": 256 << 10, "third-level cache": 3 << 20, "memory": 256 << 20}


def _rate(amount: float, timing: Timing) -> Row:
  """Median and quartiles of billions per second."""
  per_second = lambda seconds: amount / seconds / 1e9
  return {
    "value": per_second(timing.median),
    "low": per_second(timing.high),
    "high": per_second(timing.low),
  }


def _in_threads(pool: ThreadPoolExecutor, work: list[Callable[[], object]]) -> Callable[[], object]:
  """All of the work at once; NumPy lets other threads run while it works on large arrays."""
  if len(work) == 1:
    return work[0]
  return lambda: list(pool.map(lambda run: run(), work))


def bandwidths(threads: int, seconds: float) -> Iterator[Row]:
  """Reading (a maximum over float32) and copying (read and written bytes together)."""
  with ThreadPoolExecutor(threads) as pool:
    for place, size in PLACES.items():
      # In caches of their own each thread has a whole set; memory and third level are shared.
      share = size if size < 1 << 20 else size // threads
      sources = [np.ones(share // 4, np.float32) for _ in range(threads)]
      targets = [np.zeros_like(source) for source in sources]
      repeats = max(1, (8 << 20) // share)

      def read(a, repeats=repeats):
        for _ in range(repeats):
          a.max()

      def copy(a, b, repeats=repeats):
        for _ in range(repeats):
          np.copyto(b, a)

      calls = {
        "read": _in_threads(pool, [lambda a=a: read(a) for a in sources]),
        "copy": _in_threads(
          pool, [lambda a=a, b=b: copy(a, b) for a, b in zip(sources, targets, strict=True)]
        ),
      }
      times = bursts(calls, seconds=seconds)
      moved = share * threads * repeats
      yield {"limit": f"read, {place}", "unit": "GB/s"} | _rate(moved, times["read"])
      yield {"limit": f"copy, {place}", "unit": "GB/s"} | _rate(2 * moved, times["copy"])


def float_products(threads: int, seconds: float) -> Iterator[Row]:
  """Multiply-accumulates of a large float32 matrix product by XLA."""
  del threads
  size = 1024
  a = jax.random.normal(jax.random.key(0), (size, size))
  product = jax.jit(jnp.matmul)
  timing = bursts({"": lambda: jax.block_until_ready(product(a, a))}, seconds=seconds)[""]
  name = f"float32 product of {size}x{size} matrices by XLA"
  yield {"limit": name, "unit": "GMAC/s"} | _rate(size**3, timing)


def instructions(threads: int, seconds: float) -> Iterator[Row]:
  """Multiply-accumulates that the kernels' instructions allow, on registers, all threads at once.

  Levels of 1 to 8 bits, and float32 by fused multiply-adds. The best of repeated runs counts.
  """
  isa = xla_cpu.active_isa() if xla_cpu.available()[0] else None
  if isa not in library.LIMITED_ISAS:
    return
  with ThreadPoolExecutor(threads) as pool:
    for level in library.LIMIT_LEVELS:
      limit = functools.partial(library.instruction_limit, isa, level, seconds)
      rates = [future.result() for future in [pool.submit(limit) for _ in range(threads)]]
      kind = "float32" if level == 32 else f"{level}-bit"
      name = f"{kind} products, {isa} instructions"
      yield {"limit": name, "unit": "GMAC/s", "value": sum(rates) / 1e9}


def calls(threads: int, seconds: float) -> Iterator[Row]:
  """The least time between calling a compiled function and having its result."""
  del threads
  x = jnp.zeros((), jnp.float32)
  nothing = jax.jit(lambda x: x + 1)
  timing = bursts({"": lambda: jax.block_until_ready(nothing(x))}, seconds=seconds)[""]
  quartiles = {"low": 1e6 * timing.low, "high": 1e6 * timing.high}
  name = "call of a compiled function from Python"
  yield {"limit": name, "unit": "us", "value": timing.microseconds} | quartiles


MEASURES = (instructions, bandwidths, float_products, calls)


def measure(threads: int, *, seconds: float = 1.0) -> list[Row]:
  """Rows of all limits, each timed for about `seconds`."""
  return [{"threads": threads} | row for function in MEASURES for row in function(threads, seconds)]
