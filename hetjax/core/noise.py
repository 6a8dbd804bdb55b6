"""Uniform noise cheap enough to be drawn for every weight and activation of every step.

`jax.random`'s generators are built for statistical strength; on CPU they cost more than the
network whose tensors they perturb. Rounding noise needs no such strength: a counter run through
two rounds of MurmurHash3's finalizer (Appleby, 2011), keyed by a typed key, is uniform,
uncorrelated across elements, keys and steps (tests/core/test_noise.py), and fuses into the
arithmetic that uses it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, UInt32

_GOLDEN = 0x9E3779B9  # 2^32 over the golden ratio: spreads consecutive counters


def _mix(x: UInt32[Array, " n"]) -> UInt32[Array, " n"]:
  x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
  x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
  return x ^ (x >> 16)


def uniform_noise(key: jax.Array, shape: tuple[int, ...]) -> Float[Array, ...]:
  """Noise uniform on [-1, 1), a pure function of key and shape.

  Args:
    key: A typed PRNG key of at least 64 bits.
    shape: Of the result, fewer than 2^32 elements.

  Returns:
    float32 of `shape`, multiples of 2^-23.
  """
  words = jax.random.key_data(key).reshape(-1).astype(jnp.uint32)
  # A counter of every element, counted axis by axis: XLA's loops over axes are fast, those over a
  # reshaped index are not.
  counter, stride = jnp.uint32(0), _GOLDEN
  for axis in reversed(range(len(shape))):
    steps = lax.broadcasted_iota(jnp.uint32, shape, axis)
    counter = counter + steps * jnp.uint32(stride & 0xFFFFFFFF)
    stride *= shape[axis]
  bits = _mix(_mix(counter + words[0]) ^ words[-1])
  centered = (bits >> 8).astype(jnp.int32) - (1 << 23)
  return centered.astype(jnp.float32) * jnp.float32(2.0**-23)
