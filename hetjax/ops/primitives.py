"""The ops as primitives: what each implementation computes, on arguments that have been checked.

A layer is a convolution, or with `window=None` a matrix product over the last axis.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from hetjax.core.geometry import Pads
from hetjax.ops import reference
from hetjax.ops.fma import fma
from hetjax.ops.operation import Operation
from hetjax.pack.weights import PackedWeights
from hetjax.xla_cpu import call as cpu


class Window(NamedTuple):
  """Geometry of a convolution, padding made explicit."""

  strides: tuple[int, int]
  padding: Pads
  kernel_dilation: tuple[int, int]


_MATRIX = Window((1, 1), ((0, 0), (0, 0)), (1, 1))


def _as_image(x: Array | None) -> Array | None:
  """[*b, c] as the one image [1, 1, b, c] whose 1x1 convolution is the matrix product."""
  return None if x is None else x.reshape(1, 1, -1, x.shape[-1])


_GPU_MODULES = {"triton": "pallas_kernels.call", "mosaic_gpu": "pallas_kernels.mosaic"}


def module_of(implementation: str) -> ModuleType:
  """Where an implementation's functions are."""
  if implementation in _GPU_MODULES:  # Pallas takes a while to import
    return importlib.import_module(_GPU_MODULES[implementation])
  return cpu if implementation == "xla_cpu" else reference


def _quantize_pack(x, inv_beta, *, layout, signed, implementation):
  return (module_of(implementation).quantize_pack(x, inv_beta, layout, signed),)


def _packed_layer(a, weights, scale, bias, *, signed, window, implementation):
  if window is None:
    (y,) = _packed_layer(
      _as_image(a), weights, scale, bias,
      signed=signed, window=_MATRIX, implementation=implementation,
    )  # fmt: skip
    return (y.reshape(*a.shape[:-1], y.shape[-1]),)
  geometry = {"signed": signed, **window._asdict()}
  if implementation == "xla_cpu":
    return cpu.conv(a, _prepared(weights), scale, bias, **geometry)
  t = module_of(implementation).conv_accumulator(a, weights, **geometry)
  return (t if scale is None else fma(t, scale, bias),)


def _prepared(weights: PackedWeights) -> PackedWeights:
  return cpu.relayout(weights) if weights.storage == "file" else weights


def _fused_layer(
  x, weights, scale, bias, inv_beta, residual, requantize,
  *, signed, window, activation, keep_values, implementation,
):  # fmt: skip
  """Values, unless `keep_values` is false, then one record tensor per entry of `requantize`."""
  if window is None:
    outputs = _fused_layer(
      _as_image(x), weights, scale, bias, inv_beta, _as_image(residual), requantize,
      signed=signed, window=_MATRIX, activation=activation, keep_values=keep_values,
      implementation=implementation,
    )  # fmt: skip
    return tuple(y.reshape(*x.shape[:-1], y.shape[-1]) for y in outputs)
  if implementation == "xla_cpu":
    return cpu.conv(
      x, _prepared(weights), scale, bias, signed=signed, **window._asdict(), inv_beta=inv_beta,
      residual=residual, activation=activation, requantize=requantize, keep_values=keep_values,
    )  # fmt: skip
  if inv_beta is not None:
    (x,) = _quantize_pack(
      x, inv_beta, layout=weights.layout, signed=signed, implementation=implementation
    )
  (y,) = _packed_layer(
    x, weights, scale, bias, signed=signed, window=window, implementation=implementation
  )
  if residual is not None:
    y = y + residual
  y = _ACTIVATIONS[activation](y)
  records = tuple(
    _quantize_pack(
      y, r.inv_beta, layout=r.layout, signed=r.signed, implementation=implementation
    )[0]
    for r in requantize
  )  # fmt: skip
  return (y, *records) if keep_values else records


_ACTIVATIONS = {
  None: lambda y: y,
  "relu": lambda y: jnp.maximum(y, 0.0),
  "relu6": lambda y: jnp.minimum(jnp.maximum(y, 0.0), 6.0),
}
ACTIVATIONS = tuple(_ACTIVATIONS)

QUANTIZE_PACK = Operation("quantize_pack", _quantize_pack)
PACKED_LAYER = Operation("packed_layer", _packed_layer)
FUSED_LAYER = Operation("fused_layer", _fused_layer)
