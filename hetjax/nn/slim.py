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
_FACTORS = ("alpha", "beta", "scale")


def slim(
  model: nn.Module, variables: Mapping[str, Any], example: Float[Array, "b ..."]
) -> dict[str, Any]:
  """Variables of nearly the same network whose artifact holds little besides the codes.

  Batch norms get a mean of 0 and a variance of about 1, which take no bytes; what they did goes
  into their scale and bias. Then everything that is no kernel is rounded to half precision. The
  weights, levels and rules of arithmetic stay: training's forward pass and the packed network still
  agree, on these variables. Evaluate after it, not before.

  Args:
    model: The network.
    variables: With `params` and any `batch_stats`.
    example: An input, or its shape and dtype.

  Returns:
    All collections of `variables`; leaves that half precision cannot hold stay float32.
  """
  folded = _fold_norms(model, variables, example)
  params = flax.traverse_util.flatten_dict(dict(folded["params"]), sep="/")
  # Kernels become codes, or belong to layers that are not quantized.
  rounded = {k: v if _leaf(k) == "kernel" else _half(v, _leaf(k)) for k, v in params.items()}
  return {**folded, "params": flax.traverse_util.unflatten_dict(rounded, sep="/")}


def _leaf(path: str) -> str:
  return path.rpartition("/")[2]


def _half(value: Any, name: str) -> np.ndarray:
  """Rounded to half precision, as float32, if none of the values is out of its range.

  Factors below its normal numbers are out of range too. What is added may be as small as it likes:
  half precision is then wrong by less than 2^-24.
  """
  value = np.asarray(value, np.float32)
  size = np.abs(value)
  if (size > _LARGEST).any() or (name in _FACTORS and ((size < _LEAST) & (size > 0)).any()):
    return value
  return value.astype(np.float16).astype(np.float32)


def _epsilons(model: nn.Module, example: Any) -> dict[str, float]:
  """Path -> epsilon of every batch norm with scale and bias that a call runs."""
  found: dict[str, float] = {}

  def record(call, args, kwargs, context):
    norm = context.module
    is_norm = isinstance(norm, nn.BatchNorm) and context.method_name == "__call__"
    if is_norm and norm.use_scale and norm.use_bias:
      found["/".join(context.module.path)] = context.module.epsilon
    return call(*args, **kwargs)

  with nn.intercept_methods(record):
    jax.eval_shape(lambda x: model.init(jax.random.key(0), x), example)
  return found


def _fold_norms(model: nn.Module, variables: Mapping[str, Any], example: Any) -> dict[str, Any]:
  params, stats = variables["params"], variables.get("batch_stats", {})
  for path, epsilon in _epsilons(model, example).items():
    own, seen = dict(get_path(params, path)), get_path(stats, path)
    mean, variance = (np.asarray(seen[k], np.float64) for k in ("mean", "var"))
    gain = np.asarray(own["scale"], np.float64) / np.sqrt(variance + epsilon)
    bias = np.asarray(own["bias"], np.float64) - mean * gain
    own |= {"scale": gain.astype(np.float32), "bias": bias.astype(np.float32)}
    # Exact in half precision; by how much it and epsilon miss 1 goes into the gain.
    rest = np.float32(np.float16(1 - epsilon))
    own["scale"] *= np.sqrt(rest + np.float32(epsilon), dtype=np.float32)
    params = set_path(params, path, own)
    neutral = {"mean": np.zeros_like(mean, np.float32), "var": np.full(mean.shape, rest)}
    stats = set_path(stats, path, neutral)
  return {**variables, "params": params} | ({"batch_stats": stats} if stats else {})
