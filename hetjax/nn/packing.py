"""From trained variables to packed ones, to an artifact, and back to variables that run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax
import jax
import numpy as np

from hetjax import ops
from hetjax.core import Assignment, quantize
from hetjax.core.layers import LayerSpec, LayerSpecs
from hetjax.core.precision import get_path, set_path
from hetjax.pack import (
  Artifact,
  ChannelLayout,
  PackedLayer,
  check_accumulator,
  narrow,
  pack_weights,
)

Variables = Mapping[str, Any]
_LAYER_PARAMS = ("kernel", "bias", "alpha", "beta")


def assignment_of(variables: Variables, specs: LayerSpecs) -> Assignment:
  """The `assignment` collection as an `Assignment`, pinned layers filled in."""
  found = variables.get("assignment", {})
  bits = {
    n: np.asarray(get_path(found, n)["bits"]) for n, s in specs.items() if s.pinned_bits is None
  }
  return Assignment.create(specs, bits)


def assignment_collection(assignment: Assignment, specs: LayerSpecs) -> dict[str, Any]:
  """The `assignment` collection that quantized mode reads: int8 bits of layers not pinned."""
  tree: dict[str, Any] = {}
  for name, spec in specs.items():
    if spec.pinned_bits is None:
      tree = set_path(tree, name, {"bits": np.asarray(assignment.bits[name], np.int8)})
  return tree


def pack_layer(spec: LayerSpec, bits: np.ndarray, params: Mapping[str, Any]) -> PackedLayer:
  """Packs one layer's kernel under its channels' bits.

  Args:
    spec: The layer.
    bits: int[c], level of every input channel.
    params: The layer's `kernel`, `alpha`, `beta` and, if it has one, `bias`.

  Raises:
    ValueError: scales that are not positive and finite, or an accumulator that could overflow.
  """
  layout = ChannelLayout(tuple(int(b) for b in bits), spec.palette, spec.groups)
  kernel = np.asarray(params["kernel"], np.float32).reshape(spec.kernel_shape)
  grouped = np.asarray(bits, np.int32).reshape(spec.groups, -1).T
  by_weight = np.repeat(grouped, spec.out_channels // spec.groups, axis=1)
  codes = quantize.encode(kernel, by_weight, signed=True, xp=np).astype(np.uint8)
  check_accumulator(codes, layout, spec.signed, spec.name)
  bias = params.get("bias")
  return PackedLayer(
    spec=spec,
    weights=pack_weights(codes, layout),
    alpha=np.asarray(params["alpha"], np.float32),
    beta=np.asarray(params["beta"], np.float32),
    bias=None if bias is None else np.asarray(bias, np.float32),
  )


def packed_collection_entry(layer: PackedLayer) -> dict[str, Any]:
  """What packed mode reads of one layer.

  `scale = alpha * beta * unit` and `inv_beta = 1 / beta` are the very float32 operations of
  quantized mode, so both modes round alike.
  """
  unit = np.float32(layer.spec.palette.unit(layer.spec.signed))
  alpha, beta = np.asarray(layer.alpha, np.float32), np.asarray(layer.beta, np.float32)
  scale = alpha * beta * unit
  bias = np.zeros_like(scale) if layer.bias is None else np.asarray(layer.bias, np.float32)
  inv_beta = np.float32(1.0) / beta
  return {"weights": layer.weights, "scale": scale, "bias": bias, "inv_beta": inv_beta}


def pack_layers(variables: Variables, specs: LayerSpecs) -> dict[str, PackedLayer]:
  """Every quantized layer packed under the variables' assignment."""
  assignment = assignment_of(variables, specs)
  return {
    name: pack_layer(spec, assignment.bits[name], get_path(variables["params"], name))
    for name, spec in specs.items()
  }


def other_leaves(variables: Variables, specs: LayerSpecs) -> dict[str, Any]:
  """Leaves of params and batch_stats that belong to no quantized layer, by "collection/path"."""
  owned = {f"params/{n}/{leaf}" for n in specs for leaf in _LAYER_PARAMS}
  kept = {k: variables[k] for k in ("params", "batch_stats") if k in variables}
  flat = flax.traverse_util.flatten_dict(kept, sep="/")
  return {k: v for k, v in flat.items() if k not in owned}


def _variables(layers: Mapping[str, PackedLayer], others: Mapping[str, np.ndarray]) -> dict:
  packed: dict[str, Any] = {}
  for name, layer in layers.items():
    packed = set_path(packed, name, packed_collection_entry(layer))
  rest = flax.traverse_util.unflatten_dict(dict(others), sep="/")
  return {**rest, "packed": packed}


def pack_variables(variables: Variables, specs: LayerSpecs) -> dict[str, Any]:
  """Variables for packed mode: quantized layers' params swapped for the `packed` collection.

  Args:
    variables: `params`, `assignment` and any `batch_stats`.
    specs: The model's quantized layers (`layer_specs`).

  Raises:
    ValueError: see `pack_layer`.
    KeyError: the assignment lacks a layer.
  """
  return _variables(pack_layers(variables, specs), other_leaves(variables, specs))


def prepare(variables: Variables, implementation: str | None = None) -> dict[str, Any]:
  """Packed variables with weights laid out once for an implementation, as at load time."""
  is_weights = lambda node: hasattr(node, "kernel_shape")
  relaid = jax.tree.map(
    lambda node: ops.prepare_weights(node, implementation) if is_weights(node) else node,
    dict(variables["packed"]),
    is_leaf=is_weights,
  )
  return {**variables, "packed": relaid}


def artifact_of(
  model_name: str, model_config: Mapping[str, Any], variables: Variables, specs: LayerSpecs
) -> Artifact:
  """The artifact of trained variables; `pack.write_artifact` stores it.

  Leaves that half precision holds exactly take half the bytes: see `slim`.
  """
  return narrow(
    Artifact(
      model_name=model_name,
      model_config=dict(model_config),
      layers=pack_layers(variables, specs),
      tensors={k: np.asarray(v, np.float32) for k, v in other_leaves(variables, specs).items()},
    )
  )


def variables_of(artifact: Artifact) -> dict[str, Any]:
  """Variables for packed mode of an artifact."""
  others = {path: np.asarray(value, np.float32) for path, value in artifact.tensors.items()}
  return _variables(artifact.layers, others)


def float_variables(variables: Variables, specs: LayerSpecs) -> dict[str, Any]:
  """What a float32 checkpoint of the same network holds: no alpha, no beta.

  Alpha is folded into the kernels, so the values are those of float mode.
  """
  flat = dict(flax.traverse_util.flatten_dict({"params": dict(variables["params"])}, sep="/"))
  for name in specs:
    alpha = np.asarray(flat.pop(f"params/{name}/alpha"))
    del flat[f"params/{name}/beta"]
    flat[f"params/{name}/kernel"] = np.asarray(flat[f"params/{name}/kernel"]) * alpha
  tree = flax.traverse_util.unflatten_dict(flat, sep="/")
  if "batch_stats" in variables:
    tree["batch_stats"] = variables["batch_stats"]
  return tree
