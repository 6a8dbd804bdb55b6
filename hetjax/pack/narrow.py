"""Half precision in a file for what half precision holds exactly."""

from __future__ import annotations

import dataclasses

import numpy as np

from hetjax.pack.artifact import Artifact, PackedLayer


def narrow(artifact: Artifact) -> Artifact:
  """The same numbers in fewer bytes: float16 for every leaf that loses nothing by it.

  A layer's scales and bias go together. Numbers come to be exact in half precision by
  `hetjax.nn.slim`, which rounds them before the network is evaluated for the last time.
  """
  layers = {name: _narrow_layer(layer) for name, layer in artifact.layers.items()}
  tensors = {k: v.astype(np.float16) if _fits(v) else v for k, v in artifact.tensors.items()}
  return dataclasses.replace(artifact, layers=layers, tensors=tensors)


def _narrow_layer(layer: PackedLayer) -> PackedLayer:
  leaves = {k: getattr(layer, k) for k in ("alpha", "beta", "bias")}
  present = {k: np.asarray(v) for k, v in leaves.items() if v is not None}
  if not all(map(_fits, present.values())):
    return layer
  return dataclasses.replace(layer, **{k: v.astype(np.float16) for k, v in present.items()})


def _fits(value: np.ndarray) -> bool:
  with np.errstate(over="ignore"):  # what is too large becomes infinite, and differs
    return bool((value.astype(np.float16).astype(value.dtype) == value).all())
