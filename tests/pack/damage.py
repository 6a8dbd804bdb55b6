"""Takes artifact files apart and puts changed ones together, signed correctly."""

import hashlib
import json
import re
import struct

ZEROS = b"0" * 64
SIGNATURE = re.compile(rb'\\"digest\\":\\"([0-9a-f]{64})\\"')


def resign(raw):
  """`raw` with the digest that fits it, where it has a place for one."""
  found = SIGNATURE.search(raw)
  if not found:
    return raw
  at = found.start(1)
  blank = raw[:at] + ZEROS + raw[at + 64 :]
  return raw[:at] + hashlib.sha256(blank).hexdigest().encode() + raw[at + 64 :]


class Parts:
  """A file taken apart, to be changed at any level and put together with a correct digest."""

  def __init__(self, data):
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    body = data[8 + size :]
    self.meta = json.loads(header["__metadata__"]["hetjax"])
    self.tensors = {
      name: bytearray(body[slice(*header[name]["data_offsets"])])
      for name in ("float32", "bits", "codes", "float16")
      if name in header
    }
    self.text = lambda text: text
    self.container = lambda header: header
    self.header_text = lambda text: text
    self.raw = lambda raw: raw

  def layer(self, name):
    return next(entry for entry in self.meta["layers"] if entry["name"] == name)

  def build(self):
    dump = json.JSONEncoder(separators=(",", ":")).encode
    header, at = {"__metadata__": {"hetjax": self.text(dump(self.meta))}}, 0
    for name, value in self.tensors.items():
      dtype, width = {"float32": ("F32", 4), "float16": ("F16", 2)}.get(name, ("U8", 1))
      offsets = [at, at + len(value)]
      header[name] = {"dtype": dtype, "shape": [len(value) // width], "data_offsets": offsets}
      at += len(value)
    text = self.header_text(dump(self.container(header))).encode("utf-8", "surrogatepass")
    raw = struct.pack("<Q", len(text)) + text + b"".join(self.tensors.values())
    return resign(self.raw(raw))
