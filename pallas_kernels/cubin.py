"""The GPU code within an executable that XLA compiled and serialized.

A serialized executable is a file of Riegeli records (Google's container of compressed records)
whose values may be such files again; the code is among them as ELF files, "cubins".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_BLOCK = 1 << 16  # a header interrupts a Riegeli file at every multiple
_BLOCK_HEADER = 24
_CHUNK_HEADER = 40
_SIGNATURE = bytes.fromhex("83af70d10d884a3f")  # the hash that begins every Riegeli file
_SIMPLE_CHUNK, _SNAPPY = 0x72, 0x73
_ELF = b"\x7fELF\x02\x01"
_CUDA = 190  # the machine that code is for, in an ELF file's header
_DEEPEST = 5


def cubins(executable: bytes) -> list[bytes]:
  """All different ELF files of a serialized executable, in its order.

  Raises:
    ValueError: it holds none: XLA writes executables in another way than this module knows.
  """
  found: dict[bytes, None] = {}
  for value in _values(executable, 0):
    # What holds a file has its headers amidst; what they interrupt is whole in the file's values.
    if _SIGNATURE not in value:
      found.update(dict.fromkeys(_elf_files(value)))
  if not found:
    raise ValueError(f"executable of {len(executable)} bytes holds no cubin that can be found")
  return list(found)


def _values(data: bytes, depth: int) -> Iterator[bytes]:
  """Values of the chunks of the first Riegeli file in `data`, and of the files in those."""
  start = data.find(_SIGNATURE)
  if start < 0 or depth > _DEEPEST:
    return
  blocks = range(start, len(data), _BLOCK)
  file = b"".join(data[at + _BLOCK_HEADER : at + _BLOCK] for at in blocks)
  at = _CHUNK_HEADER  # the first chunk is the file's signature
  while at + _CHUNK_HEADER <= len(file):
    _, size, _, kind, _ = struct.unpack_from("<QQQQQ", file, at)
    at += _CHUNK_HEADER
    if not size or at + size > len(file):
      return
    if kind & 255 == _SIMPLE_CHUNK:
      value = _chunk_values(file[at : at + size])
      yield value
      yield from _values(value, depth + 1)
    at += size


def _chunk_values(chunk: bytes) -> bytes:
  """A byte for the compression, the size of the sizes of the records, those, the records."""
  size, at = _varint(chunk, 1)
  values = chunk[at + size :]
  return _unsnappy(values[_varint(values, 0)[1] :]) if chunk[0] == _SNAPPY else values


def _varint(data: bytes, at: int) -> tuple[int, int]:
  """An integer of seven bits a byte, and where it ends."""
  value = shift = 0
  while True:
    byte = data[at]
    at += 1
    value |= (byte & 127) << shift
    shift += 7
    if byte < 128:
      return value, at


def _unsnappy(data: bytes) -> bytes:
  """Raw Snappy, https://github.com/google/snappy/blob/main/format_description.txt."""
  size, at = _varint(data, 0)
  out = bytearray()
  while len(out) < size:
    tag = data[at]
    at += 1
    kind = tag & 3
    if kind == 0:
      length = tag >> 2
      if length >= 60:
        extra = length - 59
        length = int.from_bytes(data[at : at + extra], "little")
        at += extra
      out += data[at : at + length + 1]
      at += length + 1
      continue
    width = (0, 1, 2, 4)[kind]
    back = int.from_bytes(data[at : at + width], "little")
    at += width
    length = (tag >> 2) + 1
    if kind == 1:
      length, back = ((tag >> 2) & 7) + 4, back | (tag >> 5) << 8
    if not 0 < back <= len(out):
      raise ValueError(f"snappy copy reaches {back} bytes back, of {len(out)}")
    for _ in range(length):  # may read what it writes
      out.append(out[-back])
  return bytes(out)


def _elf_files(data: bytes) -> Iterator[bytes]:
  at = data.find(_ELF)
  while at >= 0:
    if len(data) - at >= 64 and struct.unpack_from("<H", data, at + 18)[0] == _CUDA:
      segments, sections = struct.unpack_from("<QQ", data, at + 32)
      segment_size, segment_count, section_size, section_count = struct.unpack_from(
        "<HHHH", data, at + 54
      )
      end = max(sections + section_size * section_count, segments + segment_size * segment_count)
      if at + end <= len(data):
        yield data[at : at + end]
    at = data.find(_ELF, at + 4)
