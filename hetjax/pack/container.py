"""The safetensors container of an artifact: three or four tensors, metadata and a digest.

Written with the safetensors library. Read here, because a reader of untrusted files must check
every number before it uses it and say which one is wrong; the checks are at least the library's.
"""

from __future__ import annotations

import hashlib
import mmap
import re
from typing import Any

import numpy as np
import safetensors.numpy

from hetjax.pack import strict_json
from hetjax.pack.errors import ArtifactError

Data = bytes | mmap.mmap  # a whole file
METADATA_KEY = "hetjax"
MAX_HEADER_BYTES = 16 << 20
TENSORS = {"bits": ("U8", 1), "codes": ("U8", 1), "float32": ("F32", 4)}
HALF = "float16"  # a fourth tensor, of files of version 2
_ALL = TENSORS | {HALF: ("F16", 2)}
NO_DIGEST = "0" * 64
_LENGTH_BYTES = 8
_ESCAPED_DIGEST = b'\\"digest\\":\\"' + NO_DIGEST.encode()


def join(
  metadata: str,
  codes: np.ndarray,
  bits: np.ndarray,
  float32: np.ndarray,
  float16: np.ndarray | None = None,
) -> bytes:
  """Serialises and signs.

  Args:
    metadata: Compact JSON text with an outermost `"digest"` of 64 zeros before any other.
    codes: uint8[n].
    bits: uint8[n].
    float32: float32[n].
    float16: float16[n], or None for a file without that tensor.

  Returns:
    The file; equal arguments give equal bytes.
  """
  tensors = {"bits": bits, "codes": codes, "float32": float32}
  if float16 is not None:
    tensors[HALF] = float16
  data = safetensors.numpy.save(tensors, metadata={METADATA_KEY: metadata})
  at = data.index(_ESCAPED_DIGEST) + len(_ESCAPED_DIGEST) - len(NO_DIGEST)
  digest = hashlib.sha256(data).hexdigest().encode()
  return data[:at] + digest + data[at + len(digest) :]


def split(data: Data) -> tuple[str, dict[str, np.ndarray]]:
  """Takes a container apart; the inverse of `join` except for the digest, which stays.

  Returns:
    The metadata text and the tensors: read-only uint8[n] views of `data`, copies of the floats.

  Raises:
    ArtifactError: anything but the three or four tensors, tiling the file to its last byte.
  """
  header = _header(data)
  start = _LENGTH_BYTES + header_bytes(data)
  size = len(data) - start
  metadata = header.pop("__metadata__", None)
  if not isinstance(metadata, dict) or set(metadata) != {METADATA_KEY}:
    raise ArtifactError(f"header: __metadata__ must hold the one key {METADATA_KEY!r}")
  if not isinstance(metadata[METADATA_KEY], str):
    raise ArtifactError("header: the metadata must be a string")
  if set(header) - {HALF} != set(TENSORS):
    raise ArtifactError(f"header: tensors must be {sorted(TENSORS)}, got {sorted(header)}")
  spans = {name: _span(name, entry, size) for name, entry in header.items()}
  end = 0
  for name, (low, high) in sorted(spans.items(), key=lambda item: item[1]):
    if low != end:
      what = "overlaps its neighbour" if low < end else "leaves a gap"
      raise ArtifactError(f"tensor {name!r} {what}: expected offset {end}, got {low}")
    end = high
  if end != size:
    raise ArtifactError(f"file is oversized: tensors end at byte {start + end} of {len(data)}")
  tensors = {}
  for name, (low, high) in spans.items():
    raw = np.frombuffer(data, np.uint8, high - low, start + low)
    # Copies, for a header of odd length leaves the floats unaligned.
    views = {"float32": "<f4", HALF: "<f2"}
    tensors[name] = np.array(raw).view(views[name]) if name in views else raw
  return metadata[METADATA_KEY], tensors


def check_digest(data: Data, digest: Any) -> None:
  """Compares the SHA-256 of `data`, its digest's digits taken as zeros, with `digest`.

  Raises:
    ArtifactError: not 64 lower-case hex digits, not found exactly once in the header, or different.
  """
  if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-f]{64}", digest):
    raise ArtifactError("digest: expected 64 lower-case hexadecimal digits")
  start = _LENGTH_BYTES + header_bytes(data)
  head = data[:start]
  places = head.count(digest.encode(), _LENGTH_BYTES)
  if places != 1:
    raise ArtifactError(f"digest: expected its digits once in the header, got them {places} times")
  at = head.index(digest.encode(), _LENGTH_BYTES)
  view = memoryview(data)
  actual = hashlib.sha256(view[:at])
  actual.update(NO_DIGEST.encode())
  actual.update(view[at + len(digest) :])
  if actual.hexdigest() != digest:
    raise ArtifactError(f"digest: expected {digest}, got {actual.hexdigest()}: the file is damaged")


def header_bytes(data: Data) -> int:
  """Length of the safetensors header, checked against the file and a cap.

  Raises:
    ArtifactError: the file is too short or the length is out of range.
  """
  if len(data) < _LENGTH_BYTES:
    raise ArtifactError(
      f"file is truncated: expected {_LENGTH_BYTES} bytes or more, got {len(data)}"
    )
  length = int.from_bytes(data[:_LENGTH_BYTES], "little")
  if length > MAX_HEADER_BYTES:
    raise ArtifactError(f"header length must be at most {MAX_HEADER_BYTES}, got {length}")
  if length > len(data) - _LENGTH_BYTES:
    raise ArtifactError(
      f"file is truncated: header needs {length} bytes, got {len(data) - _LENGTH_BYTES}"
    )
  return length


def _header(data: Data) -> dict[str, Any]:
  raw = data[_LENGTH_BYTES : _LENGTH_BYTES + header_bytes(data)]
  try:
    text = raw.decode("utf-8")
  except UnicodeDecodeError as e:
    raise ArtifactError(f"header: not UTF-8 at offset {_LENGTH_BYTES + e.start}") from None
  header = strict_json.loads(text, "header")
  if not isinstance(header, dict):
    raise ArtifactError(f"header: expected a JSON object, got {type(header).__name__}")
  return header


def _span(name: str, entry: Any, size: int) -> tuple[int, int]:
  """Offsets of a tensor within the data, of which there are `size` bytes."""
  if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
    raise ArtifactError(f"tensor {name!r}: expected dtype, shape and data_offsets")
  dtype, width = _ALL[name]
  if entry["dtype"] != dtype:
    raise ArtifactError(f"tensor {name!r}: expected dtype {dtype}, got {entry['dtype']!r}")
  shape, offsets = entry["shape"], entry["data_offsets"]
  if not _sizes(shape, 1) or not _sizes(offsets, 2):
    raise ArtifactError(
      f"tensor {name!r}: expected one size and two offsets, got {shape!r} and {offsets!r}"
    )
  low, high = offsets
  if low > high:
    raise ArtifactError(f"tensor {name!r}: offsets must not decrease, got {offsets}")
  if high > size:
    raise ArtifactError(f"file is truncated: tensor {name!r} needs {high} data bytes, got {size}")
  if shape[0] * width != high - low:
    raise ArtifactError(
      f"tensor {name!r}: shape {shape} needs {shape[0] * width} bytes, offsets give {high - low}"
    )
  return low, high


def _sizes(value: Any, count: int) -> bool:
  return (
    isinstance(value, list)
    and len(value) == count
    and all(type(n) is int and n >= 0 for n in value)
  )
