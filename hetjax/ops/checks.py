"""Checks of the ops' arguments; every failure is a ValueError that names the argument."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array

from hetjax.core import geometry
from hetjax.ops.primitives import Window
from hetjax.pack.weights import PackedWeights, weight_bytes


def require(name: str, x: Array, dtype, shape: tuple[int | None, ...] | None = None) -> None:
  """Checks dtype and, where given, shape (None matches any extent)."""
  if not hasattr(x, "dtype") or x.dtype != dtype:
    got = getattr(x, "dtype", type(x).__name__)
    raise ValueError(f"{name} must be an array of {jnp.dtype(dtype).name}, got {got}")
  if shape is None:
    return
  if len(x.shape) != len(shape) or any(
    want is not None and want != have for want, have in zip(shape, x.shape, strict=True)
  ):
    want = tuple("any" if v is None else v for v in shape)
    raise ValueError(f"{name} must have shape {want}, got {tuple(x.shape)}")


def check_weights(weights: PackedWeights, implementation: str, *, matrix: bool = False) -> None:
  """Checks that the implementation can run the weights, those of a 1x1 kernel if `matrix`."""
  if not isinstance(weights, PackedWeights):
    raise ValueError(f"weights must be PackedWeights, got {type(weights).__name__}")
  if matrix and weights.kernel_shape[:2] != (1, 1):
    raise ValueError(f"weights of a matmul must be 1x1, got kernel {weights.kernel_shape}")
  if weights.storage == "file":
    size = weight_bytes(weights.layout, weights.kernel_shape)
    require("codes of weights", weights.codes, jnp.uint8, (size,))
  # What follows a colon is the implementation's own: which of its layouts it is.
  if weights.storage.split(":")[0] not in ("file", implementation):
    raise ValueError(
      f"weights were prepared for implementation {weights.storage!r} and cannot run on "
      f"{implementation!r}; prepare them again from the packed file's weights"
    )


def check_epilogue(scale: Array | None, bias: Array | None, n: int) -> None:
  """Checks that scale and bias are float32[n], or both absent."""
  if (scale is None) != (bias is None):
    raise ValueError("scale and bias must be given together, or neither for raw accumulators")
  if scale is not None:
    require("scale", scale, jnp.float32, (n,))
    require("bias", bias, jnp.float32, (n,))


def require_last(name: str, x: Array, dtype, size: int) -> None:
  """Checks dtype and the extent of the last axis."""
  require(name, x, dtype)
  if x.ndim < 1 or x.shape[-1] != size:
    raise ValueError(f"{name} must have a last axis of {size}, got shape {tuple(x.shape)}")


def window_of(image: Sequence[int], kernel: Sequence[int], strides, padding, dilation) -> Window:
  """A convolution's geometry from the arguments of an op."""
  strides = geometry.pair(strides, "strides")
  dilation = geometry.pair(dilation, "kernel_dilation")
  pads = geometry.explicit_padding(padding, tuple(image), tuple(kernel), strides, dilation)
  return Window(strides, pads, dilation)
