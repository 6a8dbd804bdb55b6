"""Random bits that are a pure function of a key.

Only the raw output of NumPy's Philox counter generator is used. NumPy promises that a bit
generator's stream never changes, and makes no such promise for `Generator.permutation` and its
kin; so the same seed gives the same batches under every NumPy release.
"""

from __future__ import annotations

import numpy as np

# One stream for each use, so that two uses of one seed are independent.
SPLIT, SHUFFLE, AUGMENT, SYNTHETIC, WINDOWS = range(5)
_INDEX_BITS = 56


def random_bits(seed: int, stream: int, index: int, size: int) -> np.ndarray:
  """Uniform 64-bit words.

  Args:
    seed: 0 .. 2^64 - 1.
    stream: One of this module's stream numbers.
    index: Position within the stream (a step, an epoch), 0 .. 2^56 - 1.
    size: How many words.

  Returns:
    uint64[size].

  Raises:
    ValueError: seed or index is out of range.
  """
  if not 0 <= seed < 1 << 64:
    raise ValueError(f"seed must be in 0 .. 2^64 - 1, got {seed}")
  if not 0 <= index < 1 << _INDEX_BITS:
    raise ValueError(f"index must be in 0 .. 2^{_INDEX_BITS} - 1, got {index}")
  key = np.array([seed, stream << _INDEX_BITS | index], np.uint64)
  return np.random.Philox(key=key).random_raw(size)


def permutation(seed: int, stream: int, index: int, size: int) -> np.ndarray:
  """A uniformly random order of `range(size)`, int64[size]."""
  return np.argsort(random_bits(seed, stream, index, size), kind="stable")


def uniform(seed: int, stream: int, index: int, size: int) -> np.ndarray:
  """float64[size] in [0, 1), multiples of 2^-53."""
  return (random_bits(seed, stream, index, size) >> np.uint64(11)) * 2.0**-53
