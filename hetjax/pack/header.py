"""The JSON header of an artifact (docs/artifact.md): text <-> checked values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hetjax.core.layers import LayerSpec
from hetjax.core.palette import Palette
from hetjax.pack import strict_json
from hetjax.pack.artifact import check_path, check_spec
from hetjax.pack.container import NO_DIGEST
from hetjax.pack.errors import ArtifactError

VERSION = 2
FIRST_VERSION = 1  # written where no leaf is half precision
INDEX_BITS = 2  # of a channel's level in its palette, which has at most three
MAX_RANK = 8
MAX_CHANNELS = 1 << 20
MAX_CONSTANTS = 1 << 22  # numbers that a file may ask for without holding them
_MOST_HALF = float(np.finfo(np.float16).max)
_TOP = {"version", "digest", "hetjax", "model", "config", "palette", "layers", "tensors"}
_LAYER = {"name", "kernel", "positions"}
_LAYER_OPTIONAL = {"groups", "palette", "signed", "pinned", "kind", "bias"}
_HALF_LAYER = "half"  # optional too, from version 2 on


@dataclasses.dataclass(frozen=True)
class LayerEntry:
  """A quantized layer in the header.

  Attributes:
    spec: Its static description.
    bias: Whether it has a bias.
    half: Whether its scales and bias are float16.
  """

  spec: LayerSpec
  bias: bool
  half: bool = False


@dataclasses.dataclass(frozen=True)
class TensorEntry:
  """Another leaf in the header.

  Attributes:
    path: Its path.
    shape: Its shape.
    half: Whether it is float16.
    value: What all of its numbers are, which then are not stored; None if they are. Half only.
  """

  path: str
  shape: tuple[int, ...]
  half: bool = False
  value: float | None = None


@dataclasses.dataclass(frozen=True)
class Header:
  """What the header says.

  Attributes:
    hetjax: Version of hetjax that wrote the file.
    model: The model's name.
    config: The model's configuration, a JSON object.
    layers: The quantized layers, in the order of their data.
    tensors: The other leaves, in the order of their data.
  """

  hetjax: str
  model: str
  config: Mapping[str, Any]
  layers: tuple[LayerEntry, ...]
  tensors: tuple[TensorEntry, ...]

  @property
  def has_half(self) -> bool:
    """Whether any leaf is half precision, which takes version 2."""
    return any(entry.half for entry in (*self.layers, *self.tensors))


def sorted_paths(paths: Mapping[str, Any]) -> list[str]:
  """Paths in the order in which their nested tree, keys sorted, is walked."""
  return sorted(paths, key=lambda path: path.split("/"))


def dump(header: Header) -> str:
  """Compact JSON with a digest of zeros; keys that hold their default are left out.

  Raises:
    ArtifactError: a path of a tensor runs through another tensor, or the config is not JSON.
  """
  config = _sorted(dict(header.config))
  strict_json.dumps(config, "config")
  palettes = [entry.spec.palette.levels for entry in header.layers]
  palette = max(palettes, key=palettes.count) if palettes else Palette().levels
  out = {
    "version": VERSION if header.has_half else FIRST_VERSION,
    "digest": NO_DIGEST,
    "hetjax": header.hetjax,
    "model": header.model,
    "config": config,
    "palette": palette,
    "layers": [_layer_object(entry, palette) for entry in header.layers],
    "tensors": _tree(header.tensors),
  }
  return strict_json.dumps(out, "header")


def parse(text: str) -> tuple[Header, Any]:
  """Inverse of `dump`.

  Returns:
    The header and its digest, which is not checked here.

  Raises:
    ArtifactError: names the field; says so if the version is one of the future.
  """
  top = strict_json.loads(text, "metadata")
  if not isinstance(top, dict):
    raise ArtifactError(f"metadata: expected a JSON object, got {type(top).__name__}")
  version = _integer(top.get("version"), "version", 1)
  if version > VERSION:
    raise ArtifactError(
      f"version: the file has version {version}, this hetjax reads up to {VERSION}; "
      "it is too new, update hetjax"
    )
  _keys(top, "metadata", _TOP, set())
  palette = _palette(top["palette"], "palette")
  if not isinstance(top["config"], dict):
    raise ArtifactError(f"config: expected a JSON object, got {type(top['config']).__name__}")
  if not isinstance(top["layers"], list):
    raise ArtifactError(f"layers: expected a list, got {type(top['layers']).__name__}")
  layers = tuple(_layer(entry, i, palette, version) for i, entry in enumerate(top["layers"]))
  seen: set[str] = set()
  for name in (entry.spec.name for entry in layers):
    if name in seen:
      raise ArtifactError(f"layers: names must be unique, got {name!r} twice")
    seen.add(name)
  if not isinstance(top["tensors"], dict):
    raise ArtifactError(f"tensors: expected a JSON object, got {type(top['tensors']).__name__}")
  tensors = tuple(_leaves(top["tensors"], "", version)) if top["tensors"] else ()
  header = Header(top["hetjax"], top["model"], top["config"], layers, tensors)
  if version > FIRST_VERSION and not header.has_half:
    raise ArtifactError(f"version: expected {FIRST_VERSION} without half precision, got {version}")
  return header, top["digest"]


def _sorted(value: Any) -> Any:
  if isinstance(value, Mapping) and all(isinstance(k, str) for k in value):
    return {k: _sorted(value[k]) for k in sorted(value)}
  return [_sorted(v) for v in value] if isinstance(value, (list, tuple)) else value


def _layer_object(entry: LayerEntry, palette: tuple[int, ...]) -> dict[str, Any]:
  spec = entry.spec
  out: dict[str, Any] = {
    "name": spec.name,
    "kernel": spec.kernel_shape,
    "positions": spec.positions,
  }
  optional = {
    "groups": (spec.groups, 1),
    "palette": (spec.palette.levels, palette),
    "signed": (spec.signed, False),
    "pinned": (spec.pinned_bits, None),
    "kind": (spec.kind, "conv"),
    "bias": (entry.bias, False),
    _HALF_LAYER: (entry.half, False),
  }
  return out | {key: value for key, (value, default) in optional.items() if value != default}


def _tree(tensors: tuple[TensorEntry, ...]) -> dict[str, Any]:
  root: dict[str, Any] = {}
  for entry in tensors:
    path, sizes = entry.path, list(entry.shape)
    *parents, leaf = path.split("/")
    node = root
    for part in parents:
      node = node.setdefault(part, {})
      if not isinstance(node, dict):
        raise ArtifactError(f"tensor {path!r}: its path runs through another tensor")
    if leaf in node:
      raise ArtifactError(f"tensor {path!r}: other tensors' paths run through it")
    stored = [sizes] if entry.value is None else [sizes, entry.value]
    node[leaf] = stored if entry.half else sizes
  return root


def _leaves(tree: dict[str, Any], prefix: str, version: int) -> Iterator[TensorEntry]:
  if not tree:
    raise ArtifactError(f"tensors: expected entries under {prefix!r}, got none")
  for key, value in tree.items():
    check_path(key, "tensors: key")
    if "/" in key:
      raise ArtifactError(f"tensors: keys must not contain '/', got {key!r}")
    path = f"{prefix}/{key}" if prefix else key
    if isinstance(value, dict):
      yield from _leaves(value, path, version)
    else:
      yield _leaf(path, value, version)


def _leaf(path: str, value: Any, version: int) -> TensorEntry:
  where = f"tensor {path!r}"
  is_half = isinstance(value, list) and len(value) in (1, 2) and isinstance(value[0], list)
  if version == FIRST_VERSION or not is_half:
    return TensorEntry(path, _sizes(value, where, MAX_RANK))
  shape = _sizes(value[0], where, MAX_RANK)
  if len(value) == 1:
    return TensorEntry(path, shape, half=True)
  number = value[1]
  exact = type(number) in (int, float) and abs(number) <= _MOST_HALF
  if not exact or float(np.float16(number)) != number:
    raise ArtifactError(f"{where}: expected a number of half precision, got {number!r:.80}")
  return TensorEntry(path, shape, half=True, value=float(number))


def _layer(entry: Any, index: int, palette: Palette, version: int) -> LayerEntry:
  where = f"layers[{index}]"
  half = set() if version == FIRST_VERSION else {_HALF_LAYER}
  _keys(entry, where, _LAYER, _LAYER_OPTIONAL | half)
  check_path(entry["name"], f"{where} name")
  where = f"layer {entry['name']!r}"
  kernel = _sizes(entry["kernel"], f"{where} kernel", 4)
  if len(kernel) != 4:
    raise ArtifactError(f"{where} kernel: expected four sizes, got {list(kernel)}")
  if "palette" in entry:
    palette = _palette(entry["palette"], f"{where} palette")
  pinned = entry.get("pinned")
  spec = LayerSpec(
    name=entry["name"],
    kernel_shape=kernel,
    groups=_integer(entry.get("groups", 1), f"{where} groups", 1),
    palette=palette,
    signed=_boolean(entry.get("signed", False), f"{where} signed"),
    pinned_bits=None if pinned is None else _integer(pinned, f"{where} pinned", 1),
    positions=_integer(entry["positions"], f"{where} positions", 1),
    kind=entry.get("kind", "conv"),
  )
  check_spec(spec)
  if spec.in_channels > MAX_CHANNELS:
    raise ArtifactError(f"{where}: expected up to {MAX_CHANNELS} channels, got {spec.in_channels}")
  bias = _boolean(entry.get("bias", False), f"{where} bias")
  return LayerEntry(spec, bias, _boolean(entry.get(_HALF_LAYER, False), f"{where} half"))


def _palette(value: Any, where: str) -> Palette:
  levels = _sizes(value, where, 4)
  try:
    return Palette(levels)
  except ValueError as e:
    raise ArtifactError(f"{where}: {e}") from None


def _keys(value: Any, where: str, required: set[str], optional: set[str]) -> None:
  if not isinstance(value, dict):
    raise ArtifactError(f"{where}: expected a JSON object, got {type(value).__name__}")
  missing, unknown = sorted(required - set(value)), sorted(set(value) - required - optional)
  if missing or unknown:
    raise ArtifactError(f"{where}: keys missing {missing}, keys unknown {unknown}")


def _integer(value: Any, where: str, low: int) -> int:
  if type(value) is not int or value < low:
    raise ArtifactError(f"{where}: expected an integer of at least {low}, got {value!r:.80}")
  return value


def _boolean(value: Any, where: str) -> bool:
  if not isinstance(value, bool):
    raise ArtifactError(f"{where}: expected true or false, got {value!r:.80}")
  return value


def _sizes(value: Any, where: str, most: int) -> tuple[int, ...]:
  if not isinstance(value, list) or len(value) > most:
    raise ArtifactError(f"{where}: expected a list of up to {most} sizes, got {value!r:.80}")
  return tuple(_integer(n, where, 1) for n in value)
