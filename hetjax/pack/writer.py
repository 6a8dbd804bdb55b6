"""Artifact -> file bytes -> disk, atomically; and what the bytes are spent on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from hetjax.core.files import write_atomically
from hetjax.pack import container
from hetjax.pack.artifact import Artifact, PackedLayer, check_artifact
from hetjax.pack.bitpack import pack_rows
from hetjax.pack.header import (
  INDEX_BITS,
  MAX_CONSTANTS,
  Header,
  LayerEntry,
  TensorEntry,
  dump,
  sorted_paths,
)


def to_bytes(artifact: Artifact) -> bytes:
  """The file of an artifact; equal artifacts give equal bytes.

  Raises:
    ArtifactError: the artifact is inconsistent (`check_artifact`) or its config is not JSON.
  """
  check_artifact(artifact)
  layers = list(artifact.layers.values())
  tensors = _entries(artifact)
  header = Header(
    hetjax=artifact.hetjax_version,
    model=artifact.model_name,
    config=artifact.model_config,
    layers=tuple(
      LayerEntry(layer.spec, layer.bias is not None, layer.alpha.dtype == np.float16)
      for layer in layers
    ),
    tensors=tuple(tensors),
  )
  codes = [np.asarray(layer.weights.codes) for layer in layers]
  floats = [leaf for layer in layers for leaf in _scales(layer)] + [
    np.ravel(artifact.tensors[entry.path]) for entry in tensors if entry.value is None
  ]
  half = _concatenate([leaf for leaf in floats if leaf.dtype == np.float16], np.float16)
  return container.join(
    dump(header),
    _concatenate(codes, np.uint8),
    _concatenate([_level_indices(layer) for layer in layers], np.uint8),
    _concatenate([leaf for leaf in floats if leaf.dtype == np.float32], np.float32),
    half if header.has_half else None,
  )


def _entries(artifact: Artifact) -> list[TensorEntry]:
  """How leaves are stored: half precision that is one number throughout takes no data.

  As far as a reader allows it.
  """
  entries, room = [], MAX_CONSTANTS
  for path in sorted_paths(artifact.tensors):
    value = np.asarray(artifact.tensors[path])
    half, number = value.dtype == np.float16, None
    # By their bits, which tell the two zeros apart.
    if half and value.size <= room and len(np.unique(value.view(np.uint16))) == 1:
      number, room = float(value.flat[0]), room - value.size
    entries.append(TensorEntry(path, value.shape, half, number))
  return entries


def write_artifact(path: str | os.PathLike[str], artifact: Artifact) -> int:
  """Writes an artifact file atomically: afterwards `path` holds the old file or the whole new one.

  Args:
    path: Where; an existing file is replaced, a symbolic link is followed.
    artifact: What.

  Returns:
    Bytes written.

  Raises:
    ArtifactError: as `to_bytes`; nothing has been touched then.
    OSError: the disk refused; the temporary file has been removed.
  """
  data = to_bytes(artifact)
  write_atomically(path, data)
  return len(data)


def size_breakdown(artifact: Artifact) -> dict[str, int]:
  """Bytes of an artifact's file by what they hold; the values add up to the file's size.

  Returns:
    "codes" (weights), "bits" (levels of the channels), "scales" (alpha, beta, bias), "norms" (all
    other leaves), "header" (JSON and the container's length field).
  """
  layers = artifact.layers.values()
  sizes = {
    "codes": sum(int(np.size(layer.weights.codes)) for layer in layers),
    "bits": sum(_level_indices(layer).size for layer in layers),
    "scales": sum(leaf.nbytes for layer in layers for leaf in _scales(layer)),
    "norms": sum(artifact.tensors[e.path].nbytes for e in _entries(artifact) if e.value is None),
  }
  return sizes | {"header": len(to_bytes(artifact)) - sum(sizes.values())}


def float32_bytes(tree: Mapping[str, Any]) -> int:
  """Size of the float32 safetensors file of a float model's leaves, the peer of an artifact.

  Args:
    tree: Nested mapping of arrays, e.g. `{"params": ..., "batch_stats": ...}`.

  Returns:
    Bytes, header included; the file is really serialised.
  """
  return len(safetensors.numpy.save(dict(_leaves(tree, ""))))


def _leaves(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, np.ndarray]]:
  for key, value in tree.items():
    if isinstance(value, Mapping):
      yield from _leaves(value, f"{prefix}{key}/")
    else:
      yield f"{prefix}{key}", np.ascontiguousarray(value, np.float32)


def _scales(layer: PackedLayer) -> list[np.ndarray]:
  """The layer's float leaves in the order of the file, each flat."""
  leaves = (layer.alpha, layer.beta) + (() if layer.bias is None else (layer.bias,))
  return [np.ravel(leaf) for leaf in leaves]


def _level_indices(layer: PackedLayer) -> np.ndarray:
  """Index of every channel's level in the palette, packed; empty if there is but one level."""
  levels = layer.spec.palette.levels
  if len(levels) == 1:
    return np.zeros(0, np.uint8)
  return pack_rows(np.searchsorted(levels, layer.bits).astype(np.uint8), INDEX_BITS)


def _concatenate(parts: list[np.ndarray], dtype: Any) -> np.ndarray:
  return np.concatenate([np.zeros(0, dtype), *parts])
