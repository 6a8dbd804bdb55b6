"""Trained variables made cheap to store: norms folded, everything but the weights rounded."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import flax
import flax.linen as nn
import jax
import numpy as np
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Jaxpr, Var, jaxprs_in_params
from jaxtyping import Array, Float

from hetjax.core.precision import get_path, set_path
from hetjax.nn.quantized import QuantizedLayer

_LARGEST = float(np.finfo(np.float16).max)
_LEAST = float(np.finfo(np.float16).tiny)  # below it half precision loses digits
_STEP = float(np.finfo(np.float16).smallest_subnormal)
_FACTORS = ("alpha", "beta", "scale")
_LAYER, _NORM = "hetjax layer ", "batch norm "  # what marks their outputs and inputs in a trace


def slim(
  model: nn.Module, variables: Mapping[str, Any], example: Float[Array, "b ..."]
) -> dict[str, Any]:
  """Variables of nearly the same network whose artifact holds little besides the codes.

  What a batch norm does goes into alpha and bias of the layer that it follows, and the norm comes
  to do exactly nothing, which takes no bytes; a norm that follows no layer keeps a scale and a
  bias. Then everything that is no kernel is rounded to half precision. The rules of arithmetic
  stay: on these variables training's forward pass and the packed network agree, also where that
  folds norms itself. Evaluate after it, not before.

  Args:
    model: The network.
    variables: With `params` and any `batch_stats`.
    example: An input, or its shape and dtype.

  Returns:
    All collections of `variables`, with a bias in every layer that a norm went into; leaves that
    half precision cannot hold stay float32.
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

  What is added may be as small as it likes: half precision is then wrong by less than 2^-24. Among
  factors small ones may be only beside large ones, of channels that hardly count; none becomes 0.
  """
  value = np.asarray(value, np.float32)
  size = np.abs(value)
  small = (size < _LEAST) & (size > 0) & (name in _FACTORS)
  if (size > _LARGEST).any() or (small.any() and size.max() < 16 * _LEAST):
    return value
  rounded = value.astype(np.float16).astype(np.float32)
  return np.where(small & (rounded == 0), np.copysign(np.float32(_STEP), value), rounded)


@dataclasses.dataclass(frozen=True)
class _Norm:
  """A batch norm with scale and bias that a call runs.

  Attributes:
    epsilon: What it adds to the variance.
    layer: Path of the hetjax layer whose outputs it alone reads, if it reads any and is float32.
  """

  epsilon: float
  layer: str | None = None


def _norms(model: nn.Module, example: Any) -> dict[str, _Norm]:
  """Path -> every batch norm with scale and bias that a call runs once."""
  found: dict[str, _Norm] = {}
  calls: collections.Counter[str] = collections.Counter()

  def record(call, args, kwargs, context):
    module = context.module
    path = "/".join(module.path)
    if context.method_name == "__call__" and isinstance(module, QuantizedLayer):
      return checkpoint_name(call(*args, **kwargs), f"{_LAYER}{path}")
    is_norm = isinstance(module, nn.BatchNorm) and context.method_name == "__call__"
    if is_norm and module.use_scale and module.use_bias:
      calls[path] += 1
      found[path] = _Norm(module.epsilon)
      is_float32 = module.dtype in (None, np.float32)
      if is_float32 and args and module.axis in (-1, args[0].ndim - 1):
        args = (checkpoint_name(args[0], f"{_NORM}{path}"), *args[1:])
    return call(*args, **kwargs)

  with nn.intercept_methods(record):
    jaxpr = jax.make_jaxpr(lambda x: model.init(jax.random.key(0), x))(example).jaxpr
  followed = dict(_followed(jaxpr))
  norms = {k: dataclasses.replace(v, layer=followed.get(k)) for k, v in found.items()}
  return {path: norm for path, norm in norms.items() if calls[path] == 1}


def _followed(jaxpr: Jaxpr) -> Iterator[tuple[str, str]]:
  """Names of a norm and of the layer whose outputs nothing but that norm reads."""
  reads = collections.Counter(v for e in jaxpr.eqns for v in e.invars if isinstance(v, Var))
  reads.update(v for v in jaxpr.outvars if isinstance(v, Var))
  made: dict[Var, str] = {}
  for equation in jaxpr.eqns:
    for inner in jaxprs_in_params(equation.params):
      yield from _followed(inner)
    if equation.primitive.name != "name":
      continue
    name, (x,), (y,) = equation.params["name"], equation.invars, equation.outvars
    if name.startswith(_LAYER) and reads[y] == 1:
      made[y] = name.removeprefix(_LAYER)
    elif name.startswith(_NORM) and x in made:
      yield name.removeprefix(_NORM), made[x]


def _large_variance(epsilon: float) -> tuple[np.float32, bool]:
  """A power of 4 beside which `epsilon` vanishes in float32, and whether there is one.

  It and its root, a power of 2, are numbers of half precision. So a norm that has them as variance
  and scale multiplies by exactly 1.
  """
  for power in range(8):
    variance = np.float32(4**power)
    if variance + np.float32(epsilon) == variance:
      return variance, True
  return variance, False


def _fold_norms(model: nn.Module, variables: Mapping[str, Any], example: Any) -> dict[str, Any]:
  params, stats = variables["params"], variables.get("batch_stats", {})
  for path, norm in _norms(model, example).items():
    own, seen = dict(get_path(params, path)), get_path(stats, path)
    mean, variance = (np.asarray(seen[k], np.float64) for k in ("mean", "var"))
    gain = np.asarray(own["scale"], np.float64) / np.sqrt(variance + norm.epsilon)
    shift = np.asarray(own["bias"], np.float64) - mean * gain
    large, is_exact = _large_variance(norm.epsilon)
    if norm.layer is not None and is_exact:
      layer = _scaled(get_path(params, norm.layer), gain, shift)
      if layer is not None:
        params = set_path(params, norm.layer, layer)
        gain, shift = np.ones_like(gain), np.zeros_like(shift)
    own["scale"] = (gain * np.sqrt(np.float64(large + np.float32(norm.epsilon)))).astype(np.float32)
    own["bias"] = shift.astype(np.float32)
    params = set_path(params, path, own)
    neutral = {"mean": np.zeros_like(mean, np.float32), "var": np.full(mean.shape, large)}
    stats = set_path(stats, path, neutral)
  return {**variables, "params": params} | ({"batch_stats": stats} if stats else {})


def _scaled(
  params: Mapping[str, Any], gain: np.ndarray, shift: np.ndarray
) -> dict[str, np.ndarray] | None:
  """A layer's params with a scale and shift of its outputs in its own alpha and bias.

  Alpha is positive: where the gain is not, the weights change sign, and their codes mirror.
  None if alpha would not be a normal number, or a plain float checkpoint has none.
  """
  if "alpha" not in params:
    return None
  alpha = (np.asarray(params["alpha"], np.float64) * np.abs(gain)).astype(np.float32)
  bias = (np.asarray(params.get("bias", 0.0), np.float64) * gain + shift).astype(np.float32)
  if not (np.isfinite(alpha) & (alpha >= np.finfo(np.float32).tiny) & np.isfinite(bias)).all():
    return None
  kernel = np.asarray(params["kernel"]) * np.where(gain < 0, np.float32(-1), np.float32(1))
  return {**params, "kernel": kernel, "alpha": alpha, "bias": bias}
