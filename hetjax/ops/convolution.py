"""Dense convolution in float32, the same for training, for the reference and for float baselines.

Layout is NHWC activations, HWIO kernels throughout.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from hetjax.core.geometry import Pads, output_size

FEW_POSITIONS = 9  # output positions up to which patches beat XLA's convolution on CPU


def is_depthwise(kernel_shape: Sequence[int], groups: int) -> bool:
  """Whether every group reads a single input channel."""
  return kernel_shape[2] == 1 and groups > 1


def convolve(
  x: Float[Array, "b h w c"],
  kernel: Float[Array, "kh kw cg n"],
  *,
  strides: tuple[int, int],
  padding: Pads,
  kernel_dilation: tuple[int, int],
  groups: int,
  input_dilation: tuple[int, int] = (1, 1),
) -> Float[Array, "b ho wo n"]:
  """2-D convolution by the formulation that is fastest on the platform at hand.

  On CPU, XLA's own convolution is slow for depthwise layers, for 1x1 kernels and for small outputs,
  its gradients above all; `python -m experiments.convolutions` measures by how much.
  """
  if jax.default_backend() == "cpu" and input_dilation == (1, 1):
    if is_depthwise(kernel.shape, groups):
      return shifted_depthwise(x, kernel, strides, padding, kernel_dilation)
    size = output_size(x.shape[1:3], kernel.shape[:2], strides, padding, kernel_dilation)
    if groups == 1 and (kernel.shape[:2] == (1, 1) or math.prod(size) <= FEW_POSITIONS):
      return patch_product(x, kernel, strides, padding, kernel_dilation)
  return lax.conv_general_dilated(
    x,
    kernel,
    window_strides=strides,
    padding=padding,
    lhs_dilation=input_dilation,
    rhs_dilation=kernel_dilation,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=groups,
    precision=lax.Precision.HIGHEST,
  )


def _windows(x: Array, kernel: tuple[int, int], strides, padding: Pads, dilation) -> list[Array]:
  """For every tap, row-major, the image it meets at each output position [b, ho, wo, c]."""
  ho, wo = output_size(x.shape[1:3], kernel, strides, padding, dilation)
  x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
  windows = []
  for i in range(kernel[0]):
    for j in range(kernel[1]):
      top, left = i * dilation[0], j * dilation[1]
      rows = slice(top, top + (ho - 1) * strides[0] + 1, strides[0])
      columns = slice(left, left + (wo - 1) * strides[1] + 1, strides[1])
      # An output without positions has windows without positions, wherever the slices would end.
      windows.append(x[:, rows, columns] if ho and wo else x[:, :ho, :wo])
  return windows


def patch_product(
  x: Float[Array, "b h w c"],
  kernel: Float[Array, "kh kw c n"],
  strides: tuple[int, int],
  padding: Pads,
  kernel_dilation: tuple[int, int],
) -> Float[Array, "b ho wo n"]:
  """Convolution as one matrix product over patches (im2col)."""
  windows = _windows(x, kernel.shape[:2], strides, padding, kernel_dilation)
  patches = jnp.concatenate(windows, axis=-1)
  matrix = kernel.reshape(-1, kernel.shape[-1])
  return jnp.matmul(patches, matrix, precision=lax.Precision.HIGHEST)


def shifted_depthwise(
  x: Float[Array, "b h w c"],
  kernel: Float[Array, "kh kw 1 n"],
  strides: tuple[int, int],
  padding: Pads,
  kernel_dilation: tuple[int, int],
) -> Float[Array, "b ho wo n"]:
  """Depthwise convolution as a sum over taps of shifted, scaled images (n a multiple of c)."""
  kh, kw, _, n = kernel.shape
  if n != x.shape[3]:
    x = jnp.repeat(x, n // x.shape[3], axis=3)
  windows = _windows(x, (kh, kw), strides, padding, kernel_dilation)
  taps = kernel.reshape(kh * kw, n)
  return sum(window * tap for window, tap in zip(windows, taps, strict=True))
