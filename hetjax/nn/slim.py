"""Trained variables made cheap to store: norms folded, everything but the weights rounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax
import flax.linen as nn
import jax
import numpy as np
from jaxtyping import Array, Float

from hetjax.core.precision import get_path, set_path

_LARGEST = float(np.finfo(np.float16).max)
_LEAST = float(np.finfo(np.float16).tiny)  # below it half precision loses digits


def slim(
  model: nn.Module, variables: Mapping[str, Any], example: Float[Array, "b ..."]
) -> dict[str, Any]:
  """Variables of nearly the same network whose artifact holds little besides the codes.

  Batch norms get a mean of 0 and a variance that their epsilon completes to 1, which take no bytes,
  what they did going into scale and bias; then all of a layer's scales and biases and all norms are
  rounded to half precision. Weights, levels and the rules of arithmetic stay: training's forward
  pass and the packed network still agree, on these variables. Evaluate after it, not before.

  Args:
    model: The network.
    variables: With `params` and any `batch_stats`.
    example: An input, or its shape and dtype.

  Returns:
    All collections of `variables`; values that half precision cannot hold stay float32.
  """
  folded = _fold_norms(model, variables, example)
  params = flax.traverse_util.flatten_dict(dict(folded["params"]), sep="/")
  # Kernels are codes in the file.
  rounded = {k: v if k.endswith("kernel") else _half(v) for k, v in params.items()}
  return {**folded, "params": flax.traverse_util.unflatten_dict(rounded, sep="/")}


def _half(value: Any) -> np.ndarray:
  """Rounded to half precision, as float32, if that costs no value more than its last digits."""
  value = np.asarray(value, np.float32)
  size = np.abs(value)
  if ((size > _LARGEST) | ((size < _LEAST) & (size > 0))).any():
    return value
  return value.astype(np.float16).astype(np.float32)


def _epsilons(model: nn.Module, example: Any) -> dict[str, float]:
  """Path -> epsilon of every batch norm that a call runs."""
  found: dict[str, float] = {}

  def record(call, args, kwargs, context):
    if isinstance(context.module, nn.BatchNorm) and context.method_name == "__call__":
      found["/".join(context.module.path)] = context.module.epsilon
    return call(*args, **kwargs)

  with nn.intercept_methods(record):
    jax.eval_shape(lambda x: model.init(jax.random.key(0), x), example)
  return found


def _fold_norms(model: nn.Module, variables: Mapping[str, Any], example: Any) -> dict[str, Any]:
  params, stats = variables["params"], variables.get("batch_stats", {})
  for path, epsilon in _epsilons(model, example).items():
    own, seen = dict(get_path(params, path)), get_path(stats, path)
    if not {"scale", "bias"} <= set(own):
      continue
    mean, variance = (np.asarray(seen[k], np.float64) for k in ("mean", "var"))
    gain = np.asarray(own["scale"], np.float64) / np.sqrt(variance + epsilon)
    bias = np.asarray(own["bias"], np.float64) - mean * gain
    own |= {"scale": gain.astype(np.float32), "bias": bias.astype(np.float32)}
    # Exact in half precision; what is lacking to 1 goes into the gain.
    rest = np.float32(np.float16(1 - epsilon))
    own["scale"] *= np.sqrt(rest + np.float32(epsilon), dtype=np.float32)
    params = set_path(params, path, own)
    neutral = {"mean": np.zeros_like(mean, np.float32), "var": np.full(mean.shape, rest)}
    stats = set_path(stats, path, neutral)
  return {**variables, "params": params} | ({"batch_stats": stats} if stats else {})
