"""Times of the kernels on a GPU beside dense products on the same numbers, for `verify`.

A process's own overhead a call is many times a kernel's time, so one program holds many calls in a
row, each on weights of its own: together more than the cache holds, so that each reads memory.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from hetjax.core import Palette
from hetjax.pack.layout import ChannelLayout
from hetjax.pack.weights import PackedWeights, weight_bytes
from pallas_kernels import call

MIXES: dict[str, Mapping[int, float]] = {
  "4-bit": {4: 1.0},
  "25/50/25": {1: 0.25, 2: 0.5, 4: 0.25},
  "60/30/10": {1: 0.6, 2: 0.3, 4: 0.1},
  "1-bit": {1: 1.0},
}
_MOST_CALLS = 64


@dataclasses.dataclass(frozen=True)
class Timing:
  """What is timed, and how.

  Attributes:
    shapes: (input channels, outputs) of the products.
    batches: Rows of activations.
    cache_bytes: More than the GPU's second-level cache holds.
    copy_bytes: Of the copy whose bandwidth is measured.
    repeats: Runs of a program; the fastest counts.
  """

  shapes: Sequence[tuple[int, int]] = ((4096, 4096), (4096, 11008), (11008, 4096))
  batches: Sequence[int] = (1, 4, 8, 16, 64, 256)
  cache_bytes: int = 256 << 20
  copy_bytes: int = 1 << 30
  repeats: int = 20


def measure(timing: Timing) -> list[dict[str, Any]]:
  """A row per shape, batch and mix: microseconds, and ratios to dense bf16 and int8."""
  rows = [{"what": "copy", "gb_per_s": copy_bandwidth(timing)}]
  for channels, outputs in timing.shapes:
    for batch in timing.batches:
      dense = {
        dtype.__name__: _dense(timing, batch, channels, outputs, dtype)
        for dtype in (jnp.bfloat16, jnp.int8)
      }
      for name, mix in MIXES.items():
        packed, size = _packed(timing, batch, channels, outputs, mix)
        row = {"what": "product", "channels": channels, "outputs": outputs, "batch": batch}
        row |= {"mix": name, "microseconds": packed * 1e6, "gb_per_s": size / packed / 1e9}
        rows.append(row | {f"over_{k}": v / packed for k, v in dense.items()})
  return rows


def copy_bandwidth(timing: Timing) -> float:
  """Bytes read and written a nanosecond by the plainest of programs."""
  x = jnp.zeros(timing.copy_bytes, jnp.int8)
  return 2 * timing.copy_bytes / _fastest(jax.jit(lambda x: x + jnp.int8(1)), (x,), timing) / 1e9


def _packed(timing, batch, channels, outputs, mix) -> tuple[float, int]:
  layout = layout_of(mix, channels)
  size = weight_bytes(layout, (1, 1, channels, outputs))
  rng = np.random.default_rng(0)
  prepare = jax.jit(call.relayout)

  def weights():
    data = rng.integers(0, 256, size, dtype=np.uint8)
    return prepare(PackedWeights(jnp.asarray(data), layout, (1, 1, channels, outputs)))

  records = rng.integers(0, 256, (1, 1, batch, layout.record_bytes), dtype=np.uint8)
  geometry = {"strides": (1, 1), "padding": ((0, 0), (0, 0)), "kernel_dilation": (1, 1)}
  product = lambda a, w: call.conv_accumulator(a, w, signed=True, **geometry)
  copies = [weights() for _ in range(_calls(timing, size))]
  return _seconds_a_call(product, jnp.asarray(records), copies, timing), size


def layout_of(mix: Mapping[int, float], channels: int) -> ChannelLayout:
  """Channels in the shares of a mix; what rounding leaves over has the highest level."""
  counts = {p: int(share * channels) for p, share in mix.items()}
  counts[max(mix)] += channels - sum(counts.values())
  bits = tuple(p for p in sorted(counts, reverse=True) for _ in range(counts[p]))
  return ChannelLayout(bits, Palette(tuple(sorted(mix))))


def _dense(timing, batch, channels, outputs, dtype) -> float:
  rng = np.random.default_rng(0)
  out = jnp.int32 if dtype == jnp.int8 else jnp.float32
  number = lambda *shape: jnp.asarray(rng.integers(-8, 8, shape), dtype)
  product = lambda x, w: lax.dot_general(x, w, (((1,), (0,)), ((), ())), preferred_element_type=out)
  size = channels * outputs * jnp.dtype(dtype).itemsize
  copies = [number(channels, outputs) for _ in range(_calls(timing, size))]
  return _seconds_a_call(product, number(batch, channels), copies, timing)


def _calls(timing: Timing, size: int) -> int:
  return min(_MOST_CALLS, max(2, -(-2 * timing.cache_bytes // size)))


def _seconds_a_call(product: Callable[..., jax.Array], x, copies, timing: Timing) -> float:
  run = jax.jit(lambda x, copies: [product(x, w) for w in copies])
  return _fastest(run, (x, copies), timing) / len(copies)


def _fastest(run: Callable[..., Any], args: tuple, timing: Timing) -> float:
  jax.block_until_ready(run(*args))
  times = []
  for _ in range(timing.repeats):
    begun = time.perf_counter()
    jax.block_until_ready(run(*args))
    times.append(time.perf_counter() - begun)
  return min(times)
