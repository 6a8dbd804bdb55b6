"""Dense convolution in float32, the same for training, for the reference and for float baselines.

Layout is NHWC activations, HWIO kernels throughout.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

Pads = tuple[tuple[int, int], tuple[int, int]]


def pair(value: int | Sequence[int], name: str) -> tuple[int, int]:
  """An int, or one or two ints, as a pair of positive ints (one value serves both axes)."""
  values = (value,) if isinstance(value, int) else tuple(value)
  if len(values) == 1:
    values = values * 2
  if len(values) != 2 or any(isinstance(v, bool) or int(v) != v or v < 1 for v in values):
    raise ValueError(f"{name} must be one or two positive integers, got {value!r}")
  return int(values[0]), int(values[1])


def explicit_padding(
  padding: str | int | Sequence[int | tuple[int, int]],
  image: tuple[int, int],
  kernel: tuple[int, int],
  strides: tuple[int, int],
  dilation: tuple[int, int],
) -> Pads:
  """Padding as ((top, bottom), (left, right)).

  Args:
    padding: "SAME", "SAME_LOWER", "VALID", an int for all sides, or two entries that are each an
      int or a (low, high) pair.
    image: Input height and width.
    kernel: Kernel height and width, undilated.
    strides: Window strides.
    dilation: Kernel dilation.

  Raises:
    ValueError: an unknown name, a negative or malformed entry.
  """
  if isinstance(padding, str):
    if padding.upper() not in ("SAME", "SAME_LOWER", "VALID"):
      raise ValueError(
        f"padding must be 'SAME', 'SAME_LOWER', 'VALID' or explicit integers, got {padding!r}"
      )
    extent = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    pads = lax.padtype_to_pads(image, extent, strides, padding.upper())
    return tuple((int(lo), int(hi)) for lo, hi in pads)
  entries = (padding, padding) if isinstance(padding, int) else tuple(padding)
  if len(entries) == 1:
    entries = entries * 2
  pads = tuple((p, p) if isinstance(p, int) else tuple(p) for p in entries)
  if len(pads) != 2 or any(len(p) != 2 or any(int(v) != v or v < 0 for v in p) for p in pads):
    raise ValueError(f"padding must be two non-negative (low, high) pairs, got {padding!r}")
  return tuple((int(lo), int(hi)) for lo, hi in pads)


def output_size(
  image: tuple[int, int],
  kernel: tuple[int, int],
  strides: tuple[int, int],
  pads: Pads,
  dilation: tuple[int, int],
) -> tuple[int, int]:
  """Output height and width of a convolution; 0 where the kernel does not fit."""
  out = []
  for size, k, s, (lo, hi), d in zip(image, kernel, strides, pads, dilation, strict=True):
    out.append(max(0, (size + lo + hi - (d * (k - 1) + 1)) // s + 1))
  return out[0], out[1]


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
