"""Dense convolution in float32, the same for training, for the reference and for float baselines.

Layout is NHWC activations, HWIO kernels throughout.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from hetjax.core.geometry import Pads, output_size


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

  Depthwise layers on CPU run as shifted multiply-adds: XLA's grouped convolution is several times
  slower there, forward and backward (`python -m experiments.depthwise` measures it).
  """
  if (
    is_depthwise(kernel.shape, groups)
    and input_dilation == (1, 1)
    and jax.default_backend() == "cpu"
  ):
    return shifted_depthwise(x, kernel, strides, padding, kernel_dilation)
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


def shifted_depthwise(
  x: Float[Array, "b h w c"],
  kernel: Float[Array, "kh kw 1 n"],
  strides: tuple[int, int],
  padding: Pads,
  kernel_dilation: tuple[int, int],
) -> Float[Array, "b ho wo n"]:
  """Depthwise convolution as a sum over taps of shifted, scaled images (n a multiple of c)."""
  kh, kw, _, n = kernel.shape
  c = x.shape[3]
  ho, wo = output_size(x.shape[1:3], (kh, kw), strides, padding, kernel_dilation)
  x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
  if n != c:
    x = jnp.repeat(x, n // c, axis=3)
  total = jnp.zeros((x.shape[0], ho, wo, n), x.dtype)
  for i in range(kh):
    for j in range(kw):
      top, left = i * kernel_dilation[0], j * kernel_dilation[1]
      window = x[
        :,
        top : top + (ho - 1) * strides[0] + 1 : strides[0],
        left : left + (wo - 1) * strides[1] + 1 : strides[1],
      ]
      total = total + window * kernel[i, j, 0]
  return total
