"""Random damage to artifacts is refused with an ArtifactError and nothing else."""

import numpy as np
import pytest

from hetjax.pack import ArtifactError, from_bytes
from tests.pack.damage import resign


def mutate(rng, data):
  """One random flip, truncation, insertion, swap or splice; maybe the same bytes by chance."""
  a, b = sorted(rng.integers(0, len(data) + 1, 2).tolist())
  kind = rng.integers(6)
  if kind == 0:
    at = int(rng.integers(len(data)))
    return data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]
  if kind == 1:
    at = int(rng.integers(len(data)))
    return data[:at] + bytes([int(rng.integers(256))]) + data[at + 1 :]
  if kind == 2:
    return data[:a]
  if kind == 3:
    return data[:a] + rng.bytes(int(rng.integers(1, 9))) + data[a:]
  if kind == 4:
    return data[:a] + data[b:] + data[a:b]
  length = min(int(rng.integers(1, 33)), len(data) - b)
  return data[:a] + data[b : b + length] + data[a + length :]


def test_every_flipped_bit_of_the_file_is_refused(any_bytes):
  for at in range(len(any_bytes)):
    broken = bytearray(any_bytes)
    broken[at] ^= 1 << (at % 8)
    with pytest.raises(ArtifactError):
      from_bytes(broken)


def test_two_thousand_random_corruptions_are_refused(any_bytes):
  rng = np.random.default_rng(20240229)
  count = 0
  while count < 2000:
    broken = mutate(rng, any_bytes)
    if broken == any_bytes:
      continue
    count += 1
    with pytest.raises(ArtifactError):
      from_bytes(broken)


def test_random_changes_with_a_correct_digest_raise_nothing_else(any_bytes):
  rng = np.random.default_rng(7)
  accepted = 0
  for _ in range(1500):
    try:
      artifact = from_bytes(resign(mutate(rng, any_bytes)))
    except ArtifactError:
      continue
    accepted += 1
    assert len(artifact.layers) == 3
  assert 0 < accepted < 1000  # other codes, scales or names are sound artifacts too
