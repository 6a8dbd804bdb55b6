"""A packed network in memory: what an artifact file holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from hetjax import __version__
from hetjax.core.assignment import Assignment
from hetjax.core.layers import LayerSpec
from hetjax.pack.accumulator import INT32_MAX, accumulator_bound, accumulator_limit
from hetjax.pack.errors import ArtifactError
from hetjax.pack.weights import PackedWeights, first_nonzero_pad, unpack_weights

COLLECTIONS = ("params", "batch_stats")
KINDS = ("conv", "dense")
FLOATS = (np.float32, np.float16)
MAX_NAME = 512
_LEAST_SCALE = np.finfo(np.float32).tiny  # smaller ones have no finite reciprocal or flush to 0


@dataclasses.dataclass(frozen=True, eq=False)
class PackedLayer:
  """One quantized layer.

  Attributes:
    spec: Its static description.
    weights: Its codes, in storage "file".
    alpha: float32[N], the weights' scale per output channel, positive.
    beta: float32[], the input activations' scale, positive.
    bias: float32[N], or None for a layer without.

  All three may be float16, which takes half the bytes in a file; see `narrow`.
  """

  spec: LayerSpec
  weights: PackedWeights
  alpha: np.ndarray
  beta: np.ndarray
  bias: np.ndarray | None = None

  @property
  def bits(self) -> np.ndarray:
    """Level of every input channel, int8[C]."""
    return self.weights.layout.bits_array.astype(np.int8)


@dataclasses.dataclass(frozen=True, eq=False)
class Artifact:
  """A packed network: all that is needed to rebuild and run it.

  Attributes:
    model_name: Name of the model's constructor.
    model_config: Its arguments, a JSON object (tuples come back as lists).
    layers: Layer name -> quantized layer, in the model's order.
    tensors: The other leaves, float32 or float16, by "/"-joined path with its collection,
      "params/..." or "batch_stats/...": norms, embeddings.
    hetjax_version: Version of hetjax that packed it.
  """

  model_name: str
  model_config: Mapping[str, Any]
  layers: Mapping[str, PackedLayer]
  tensors: Mapping[str, np.ndarray]
  hetjax_version: str = __version__

  @property
  def specs(self) -> dict[str, LayerSpec]:
    """Static descriptions of the layers."""
    return {name: layer.spec for name, layer in self.layers.items()}

  @property
  def assignment(self) -> Assignment:
    """Levels of all layers, pinned ones included."""
    return Assignment({name: layer.bits for name, layer in self.layers.items()})


def check_artifact(artifact: Artifact) -> None:
  """Checks all that must hold between an artifact's parts; run on writing and on reading.

  Raises:
    ArtifactError: names the layer or tensor, what was expected and got.
  """
  for field, text in (("model", artifact.model_name), ("hetjax", artifact.hetjax_version)):
    if not isinstance(text, str) or not 0 < len(text) <= MAX_NAME or not text.isprintable():
      raise ArtifactError(f"{field}: expected a short printable string, got {text!r:.80}")
  if not isinstance(artifact.model_config, Mapping):
    raise ArtifactError(
      f"config: expected a JSON object, got {type(artifact.model_config).__name__}"
    )
  for name, layer in artifact.layers.items():
    check_path(name, "layer name")
    if layer.spec.name != name:
      raise ArtifactError(f"layer {name!r}: its spec has the name {layer.spec.name!r}")
    check_spec(layer.spec)
    _check_layer(name, layer)
  if not artifact.layers:
    raise ArtifactError("layers: expected at least one, got none")
  for name in artifact.layers:
    for ancestor in _ancestors(name):
      if ancestor in artifact.layers:
        raise ArtifactError(f"layer {name!r}: its path runs through layer {ancestor!r}")
  for path, value in artifact.tensors.items():
    check_path(path, "tensor path")
    collection, _, rest = path.partition("/")
    if collection not in COLLECTIONS or not rest:
      raise ArtifactError(f"tensor {path!r}: expected a path in one of {COLLECTIONS}")
    if rest in artifact.layers or any(a in artifact.layers for a in _ancestors(rest)):
      raise ArtifactError(f"tensor {path!r}: belongs to a quantized layer")
    _check_floats(value, None, f"tensor {path!r}")


def _ancestors(path: str) -> list[str]:
  """Paths that `path` runs through, the nearest first."""
  parts = path.split("/")
  return ["/".join(parts[:n]) for n in range(len(parts) - 1, 0, -1)]


def check_path(path: Any, field: str) -> None:
  """Checks a "/"-joined path.

  Raises:
    ArtifactError: not a string, empty or too long, an empty part, ".", "..", a backslash, or a
      character that does not print.
  """
  fine = (
    isinstance(path, str)
    and len(path) <= MAX_NAME
    and path.isprintable()
    and "\\" not in path
    and not {"", ".", ".."} & set(path.split("/"))
  )
  if not fine:
    raise ArtifactError(f"{field}: expected names joined by '/', got {path!r:.80}")


def check_spec(spec: LayerSpec) -> None:
  """Checks a layer's static description by itself.

  Raises:
    ArtifactError: sizes, groups, kind and pinned level do not fit together.
  """
  where = f"layer {spec.name!r}"
  if len(spec.kernel_shape) != 4 or min(spec.kernel_shape) < 1:
    raise ArtifactError(f"{where} kernel: expected four positive sizes, got {spec.kernel_shape}")
  if spec.groups < 1 or spec.out_channels % spec.groups:
    raise ArtifactError(
      f"{where} groups: expected a divisor of {spec.out_channels}, got {spec.groups}"
    )
  if spec.positions < 1:
    raise ArtifactError(f"{where} positions: expected 1 or more, got {spec.positions}")
  if spec.kind not in KINDS:
    raise ArtifactError(f"{where} kind: expected one of {KINDS}, got {spec.kind!r:.80}")
  if spec.kind == "dense" and (spec.taps != 1 or spec.groups != 1):
    raise ArtifactError(
      f"{where} kind: a dense layer has a 1x1 kernel and one group, "
      f"got {spec.kernel_shape} in {spec.groups}"
    )
  if spec.pinned_bits is not None and spec.palette.levels != (spec.pinned_bits,):
    raise ArtifactError(
      f"{where} pinned: expected the palette's single level, "
      f"got {spec.pinned_bits} with levels {spec.palette.levels}"
    )


def _check_layer(name: str, layer: PackedLayer) -> None:
  spec, weights = layer.spec, layer.weights
  layout = weights.layout
  for field, got, expected in (
    ("kernel", tuple(weights.kernel_shape), tuple(spec.kernel_shape)),
    ("groups", layout.groups, spec.groups),
    ("palette", layout.palette, spec.palette),
    ("channels", layout.channels, spec.in_channels),
  ):
    if got != expected:
      raise ArtifactError(f"layer {name!r} {field}: the spec has {expected}, the weights {got}")
  try:
    pad = first_nonzero_pad(weights)
  except ValueError as e:
    raise ArtifactError(f"layer {name!r} codes: {e}") from None
  if pad is not None:
    raise ArtifactError(f"layer {name!r} codes: expected zero pad bits, got others in byte {pad}")
  # The exact bound unpacks the weights; nearly always the layout alone proves them safe.
  if accumulator_limit(layout, spec.kernel_shape) > INT32_MAX:
    bound = accumulator_bound(unpack_weights(weights), layout, spec.signed)
    if bound > INT32_MAX:
      raise ArtifactError(
        f"layer {name!r} codes: accumulator must stay within {INT32_MAX}, can reach {bound}"
      )
  outputs = (spec.out_channels,)
  _check_floats(layer.alpha, outputs, f"layer {name!r} alpha", _LEAST_SCALE)
  _check_floats(layer.beta, (), f"layer {name!r} beta", _LEAST_SCALE)
  if layer.bias is not None:
    _check_floats(layer.bias, outputs, f"layer {name!r} bias")
  leaves = [leaf for leaf in (layer.alpha, layer.beta, layer.bias) if leaf is not None]
  if len({leaf.dtype for leaf in leaves}) > 1:
    raise ArtifactError(f"layer {name!r}: alpha, beta and bias must all be float32 or all float16")


def _check_floats(
  value: Any, shape: tuple[int, ...] | None, where: str, least: np.float32 | None = None
) -> None:
  value = np.asarray(value)
  if value.dtype not in FLOATS or (shape is not None and value.shape != shape):
    expected = "float32 or float16" + ("" if shape is None else str(list(shape)))
    raise ArtifactError(f"{where}: expected {expected}, got {value.dtype}{list(value.shape)}")
  if value.size == 0:
    raise ArtifactError(f"{where}: expected at least one number, got shape {list(value.shape)}")
  wrong = ~np.isfinite(value)
  if least is not None:
    with np.errstate(invalid="ignore"):
      wrong |= ~(value >= least)
  if wrong.any():
    i = int(np.flatnonzero(wrong)[0])
    what = "finite numbers" if least is None else "positive finite numbers"
    raise ArtifactError(f"{where}: expected {what}, got {value.ravel()[i]} at {i}")
