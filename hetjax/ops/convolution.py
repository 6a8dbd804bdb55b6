"""Convolution in float32, the same for training, for the reference and for float baselines.

Layout is NHWC activations, HWIO kernels throughout.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from hetjax import xla_cpu
from hetjax.core.geometry import Pads, output_size
from hetjax.xla_cpu.float_conv import FloatConv

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
  its gradients above all; `python -m experiments.convolutions` measures by how much. A call that is
  differentiated runs in the CPU engine, forward and backward, where that can be; any other call is
  XLA's, so that what is not training neither needs the engine nor is sped up by it. In exchange
  such a convolution has no forward-mode derivative; its gradients have gradients.
  """
  window = {
    "strides": tuple(strides),
    "padding": tuple(map(tuple, padding)),
    "kernel_dilation": tuple(kernel_dilation),
  }
  plain = functools.partial(_convolve, groups=groups, input_dilation=input_dilation, **window)
  # What is neither dense nor depthwise, or fits no image, is XLA's to compute or to refuse.
  fits = kernel.shape[2] * groups == x.shape[3] and groups in (1, kernel.shape[3])
  if not fits or input_dilation != (1, 1) or not engine_differentiates(x, kernel):
    return plain(x, kernel)
  return _engine_gradients(plain, FloatConv(x.shape, kernel.shape, **window))(x, kernel)


def engine_differentiates(*operands: Array) -> bool:
  """Whether the CPU engine can compute with these operands, and gradients, in training.

  Among several devices XLA's partitioner must see what it is to partition, and the engine is called
  for one size of batch.
  """
  return (
    jax.default_backend() == "cpu"
    and jax.device_count() == 1
    and all(isinstance(extent, int) for extent in operands[0].shape)
    and all(operand.dtype == jnp.float32 for operand in operands)
    and xla_cpu.available()[0]
  )


def with_gradients_of(reference: Callable, fast: Callable) -> Callable:
  """`fast`, differentiated as the function `reference` of the same arguments."""
  call = jax.custom_vjp(fast)
  call.defvjp(lambda *a: (fast(*a), a), lambda kept, g: jax.vjp(reference, *kept)[1](g))
  return call


def _engine_gradients(plain: Callable, conv: FloatConv) -> Callable:
  """`plain` that, differentiated, is `conv`; second derivatives are XLA's."""

  forward = with_gradients_of(plain, conv.forward)
  zeros = lambda shape: jnp.zeros(shape, jnp.float32)
  input_gradient = with_gradients_of(
    lambda g, k: jax.vjp(lambda x: plain(x, k), zeros(conv.image))[1](g)[0], conv.input_gradient
  )
  kernel_gradient = with_gradients_of(
    lambda x, g: jax.vjp(lambda k: plain(x, k), zeros(conv.kernel))[1](g)[0], conv.kernel_gradient
  )
  call = jax.custom_vjp(plain)
  call.defvjp(
    lambda x, k: (forward(x, k), (x, k)),
    lambda kept, g: (input_gradient(g, kept[1]), kernel_gradient(kept[0], g)),
  )
  return call


def _convolve(
  x: Array, kernel: Array, *, strides, padding, kernel_dilation, groups: int, input_dilation
) -> Array:
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
  # Else XLA may compute the kernel anew for every position that it meets.
  taps = lax.optimization_barrier(kernel.reshape(kh * kw, n))
  return sum(window * tap for window, tap in zip(windows, taps, strict=True))
