"""File bytes -> artifact. Trusts nothing: every size is compared with the bytes there are."""

from __future__ import annotations

import dataclasses
import math
import mmap
import os

import numpy as np

from hetjax.core.layers import LayerSpec
from hetjax.pack import container
from hetjax.pack.artifact import Artifact, PackedLayer, check_artifact
from hetjax.pack.bitpack import unpack_rows
from hetjax.pack.errors import ArtifactError
from hetjax.pack.header import INDEX_BITS, MAX_CONSTANTS, parse
from hetjax.pack.layout import ChannelLayout
from hetjax.pack.weights import PackedWeights, weight_bytes


def read_artifact(path: str | os.PathLike[str]) -> Artifact:
  """Reads an artifact file into memory.

  Raises:
    ArtifactError: the file is not a sound artifact; the message says where.
    OSError: it cannot be read, e.g. it is missing or a directory.
  """
  with open(path, "rb") as f:
    data = f.read()
  return _checked(data, path)


def map_artifact(path: str | os.PathLike[str]) -> Artifact:
  """As `read_artifact`, but leaves the codes in the file and maps it.

  For one pass over the weights, as when they are laid out anew: what has been used need not stay
  in memory. The system kills a process that touches mapped bytes which are no longer in the file,
  so as long as codes are used it must not be shortened in place. Replacing it, as `write_artifact`
  does, or deleting it does no harm.

  Raises:
    ArtifactError: as `read_artifact`.
    OSError: as `read_artifact`.
  """
  with open(path, "rb") as f:
    try:
      data = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
    except (ValueError, OSError):  # it is empty, or no regular file
      data = f.read()
  return _checked(data, path)


def from_bytes(data: bytes, source: str = "artifact") -> Artifact:
  """Inverse of `hetjax.pack.to_bytes`.

  Args:
    data: The whole file.
    source: Its name, for messages.

  Returns:
    The artifact; its codes are read-only views of `data`.

  Raises:
    ArtifactError: malformed, damaged, truncated, oversized, of a newer version, or inconsistent.
  """
  return _checked(bytes(data), source)


def _checked(data: container.Data, source: str | os.PathLike[str]) -> Artifact:
  try:
    return _parse(data)
  except ArtifactError as e:
    raise ArtifactError(f"{os.fspath(source)}: {e}") from None


@dataclasses.dataclass
class _Stream:
  """A tensor consumed from front to back."""

  name: str
  values: np.ndarray
  at: int = 0

  @property
  def left(self) -> int:
    return self.values.size - self.at

  def take(self, count: int, where: str) -> np.ndarray:
    if count > self.left:
      raise ArtifactError(
        f"{where}: needs {count} entries of tensor {self.name!r} from {self.at} on, got {self.left}"
      )
    self.at += count
    return self.values[self.at - count : self.at]

  def finish(self) -> None:
    if self.left:
      raise ArtifactError(
        f"tensor {self.name!r}: expected {self.at} entries in all, got {self.values.size}"
      )


def _parse(data: container.Data) -> Artifact:
  metadata, tensors = container.split(data)
  header, digest = parse(metadata)
  container.check_digest(data, digest)
  if header.has_half != (container.HALF in tensors):
    raise ArtifactError(
      f"header: expected {'a' if header.has_half else 'no'} tensor {container.HALF!r}"
    )
  codes, bits, floats = (_Stream(n, tensors[n]) for n in ("codes", "bits", "float32"))
  half = _Stream(container.HALF, tensors.get(container.HALF, np.zeros(0, np.float16)))
  layers = {}
  for entry in header.layers:
    spec = entry.spec
    weights = _weights(spec, codes, bits)
    outputs, where = spec.out_channels, f"layer {spec.name!r}"
    stream = half if entry.half else floats
    layers[spec.name] = PackedLayer(
      spec,
      weights,
      alpha=stream.take(outputs, f"{where} alpha"),
      beta=stream.take(1, f"{where} beta").reshape(()),
      bias=stream.take(outputs, f"{where} bias") if entry.bias else None,
    )
  leaves, room = {}, MAX_CONSTANTS
  for entry in header.tensors:
    count, where = math.prod(entry.shape), f"tensor {entry.path!r}"
    if entry.value is None:
      stream = half if entry.half else floats
      leaves[entry.path] = stream.take(count, where).reshape(entry.shape)
      continue
    room -= count
    if room < 0:
      raise ArtifactError(f"{where}: expected up to {MAX_CONSTANTS} constants in all")
    leaves[entry.path] = np.full(entry.shape, entry.value, np.float16)
  for stream in (codes, bits, floats, half):
    stream.finish()
  artifact = Artifact(header.model, header.config, layers, leaves, header.hetjax)
  check_artifact(artifact)
  return artifact


def _weights(spec: LayerSpec, codes: _Stream, bits: _Stream) -> PackedWeights:
  where = f"layer {spec.name!r}"
  # A weight takes a bit at least. Bounds all of the layer's sizes, hence all that is computed and
  # allocated from them below.
  if spec.weights > 8 * codes.left:
    raise ArtifactError(
      f"{where} kernel: {spec.weights} weights cannot lie in the {codes.left} bytes left of codes"
    )
  layout = ChannelLayout(_levels(spec, bits), spec.palette, spec.groups)
  size = weight_bytes(layout, spec.kernel_shape)
  return PackedWeights(codes.take(size, f"{where} codes"), layout, spec.kernel_shape)


def _levels(spec: LayerSpec, bits: _Stream) -> tuple[int, ...]:
  """Level of every channel, from the packed indices."""
  levels, channels = spec.palette.levels, spec.in_channels
  if len(levels) == 1:
    return levels * channels
  where = f"layer {spec.name!r} bits"
  start = bits.at
  packed = bits.take(-(-channels * INDEX_BITS // 8), where)
  lanes = unpack_rows(packed, INDEX_BITS, packed.size * (8 // INDEX_BITS))
  if lanes[channels:].any():
    raise ArtifactError(f"{where}: expected zero pad bits in byte {start + packed.size - 1}")
  wrong = np.flatnonzero(lanes[:channels] >= len(levels))
  if wrong.size:
    k = int(wrong[0])
    raise ArtifactError(
      f"{where}: expected level indices below {len(levels)}, got {int(lanes[k])} at channel {k} "
      f"(byte {start + k * INDEX_BITS // 8})"
    )
  return tuple(np.asarray(levels)[lanes[:channels]].tolist())
