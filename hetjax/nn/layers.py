"""`Dense` and `Conv` with the constructor arguments of flax.linen's, plus those of precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype as linen_promote_dtype
from jax import lax
from jaxtyping import Array, Float

from hetjax.core import geometry
from hetjax.core.layers import LayerSpec
from hetjax.nn.quantized import QuantizedLayer
from hetjax.ops import convolution

_kernel_init = nn.initializers.lecun_normal()


class Dense(QuantizedLayer):
  """A linear map over the last axis whose input channels have precisions.

  Attributes: those of `flax.linen.Dense`, and those of `QuantizedLayer` (keyword only). `dtype`,
  `precision` and `dot_general` act in float mode; the other modes are float32 by contract.
  """

  features: int
  use_bias: bool = True
  dtype: Any = None
  param_dtype: Any = jnp.float32
  precision: Any = None
  kernel_init: Callable = _kernel_init
  bias_init: Callable = nn.initializers.zeros_init()
  promote_dtype: Callable = linen_promote_dtype
  dot_general: Callable | None = None
  dot_general_cls: Any = None
  preferred_element_type: Any = None

  def layer_spec(self, x: Sequence[int], y: Sequence[int]) -> LayerSpec:
    return LayerSpec(
      name=self.name_in_tree,
      kernel_shape=(1, 1, x[-1], self.features),
      groups=1,
      palette=self.effective_palette,
      signed=self.signed,
      pinned_bits=self.pinned_bits,
      positions=_product(y[1:-1]),
      kind="dense",
    )

  @nn.compact
  def __call__(self, inputs: Float[Array, "... c"]) -> Float[Array, "... n"]:
    self.check_mode()
    spec = self.layer_spec(inputs.shape, (*inputs.shape[:-1], self.features))
    if self.mode == "packed":
      return self.execute_packed(inputs, spec)
    dot_general = self.dot_general or (self.dot_general_cls or (lambda: flat_dot_general))()

    def contract(x, kernel):
      precision = self.precision
      if self.mode == "float":
        x, kernel = self.promote_dtype(x, kernel, dtype=self.dtype)
      else:
        precision = lax.Precision.HIGHEST
      return dot_general(
        x,
        kernel,
        (((x.ndim - 1,), (0,)), ((), ())),
        precision=precision,
        **_preferred(self.preferred_element_type),
      )

    return self.execute(
      inputs,
      spec=spec,
      kernel_shape=(inputs.shape[-1], self.features),
      kernel_init=self.kernel_init,
      bias_init=self.bias_init if self.use_bias else None,
      param_dtype=self.param_dtype,
      contract=contract,
    )


def flat_dot_general(x: Array, kernel: Array, dimension_numbers: Any, **options: Any) -> Array:
  """`lax.dot_general` of a tensor's last axis as one product of two matrices.

  On CPU, XLA's gradients of a product with leading axes take longer.
  """
  flat = x.reshape(-1, x.shape[-1])
  y = lax.dot_general(flat, kernel, (((1,), (0,)), dimension_numbers[1]), **options)
  return y.reshape(*x.shape[:-1], y.shape[-1])


class Conv(QuantizedLayer):
  """A 2-D convolution (NHWC) whose input channels have precisions.

  Attributes: those of `flax.linen.Conv`, and those of `QuantizedLayer` (keyword only). `padding` is
  "SAME", "SAME_LOWER", "VALID" or explicit. `mask` must be None: the grids have no zero, a masked
  weight could not be represented. `input_dilation` cannot run packed. `dtype`, `precision` and
  `conv_general_dilated` act in float mode; the other modes are float32 by contract.
  """

  features: int
  kernel_size: int | Sequence[int]
  strides: int | Sequence[int] | None = 1
  padding: Any = "SAME"
  input_dilation: int | Sequence[int] | None = 1
  kernel_dilation: int | Sequence[int] | None = 1
  feature_group_count: int = 1
  use_bias: bool = True
  mask: Array | None = None
  dtype: Any = None
  param_dtype: Any = jnp.float32
  precision: Any = None
  kernel_init: Callable = _kernel_init
  bias_init: Callable = nn.initializers.zeros_init()
  promote_dtype: Callable = linen_promote_dtype
  conv_general_dilated: Callable | None = None
  conv_general_dilated_cls: Any = None
  preferred_element_type: Any = None

  def layer_spec(self, x: Sequence[int], y: Sequence[int]) -> LayerSpec:
    kernel = geometry.pair(self.kernel_size, "kernel_size")
    return LayerSpec(
      name=self.name_in_tree,
      kernel_shape=(*kernel, x[-1] // self.feature_group_count, self.features),
      groups=self.feature_group_count,
      palette=self.effective_palette,
      signed=self.signed,
      pinned_bits=self.pinned_bits,
      positions=_product(y[1:-1]),
    )

  def _geometry(self, shape: Sequence[int]) -> dict:
    kernel = geometry.pair(self.kernel_size, "kernel_size")
    strides = _pair(self.strides, "strides")
    dilation = _pair(self.kernel_dilation, "kernel_dilation")
    input_dilation = _pair(self.input_dilation, "input_dilation")
    image = tuple((n - 1) * d + 1 for n, d in zip(shape[1:3], input_dilation, strict=True))
    return {
      "strides": strides,
      "padding": geometry.explicit_padding(self.padding, image, kernel, strides, dilation),
      "kernel_dilation": dilation,
      "input_dilation": input_dilation,
    }

  def _check(self, inputs: Array) -> None:
    self.check_mode()
    if inputs.ndim != 4:
      raise ValueError(f"inputs must be [batch, height, width, channels], got {inputs.shape}")
    if self.mask is not None:
      raise ValueError("mask must be None: no precision's grid holds a zero weight")
    groups = self.feature_group_count
    if groups < 1 or inputs.shape[-1] % groups or self.features % groups:
      raise ValueError(
        f"feature_group_count must divide input channels and features, got {groups} for "
        f"{inputs.shape[-1]} channels and {self.features} features"
      )

  @nn.compact
  def __call__(self, inputs: Float[Array, "b h w c"]) -> Float[Array, "b ho wo n"]:
    self._check(inputs)
    window = self._geometry(inputs.shape)
    kernel = geometry.pair(self.kernel_size, "kernel_size")
    size = geometry.output_size(
      inputs.shape[1:3],
      kernel,
      window["strides"],
      window["padding"],
      window["kernel_dilation"],
    )
    spec = self.layer_spec(inputs.shape, (inputs.shape[0], *size, self.features))
    if self.mode == "packed":
      if window.pop("input_dilation") != (1, 1):
        raise ValueError("input_dilation must be 1 in packed mode")
      return self.execute_packed(inputs, spec, **window)
    custom = self.conv_general_dilated or (
      self.conv_general_dilated_cls() if self.conv_general_dilated_cls else None
    )

    def contract(x, kernel):
      if self.mode != "float":
        return convolution.convolve(x, kernel, groups=spec.groups, **window)
      x, kernel = self.promote_dtype(x, kernel, dtype=self.dtype)
      if custom is None and self.precision is None and self.preferred_element_type is None:
        return convolution.convolve(x, kernel, groups=spec.groups, **window)
      return (custom or lax.conv_general_dilated)(
        x,
        kernel,
        window["strides"],
        window["padding"],
        lhs_dilation=window["input_dilation"],
        rhs_dilation=window["kernel_dilation"],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=spec.groups,
        precision=self.precision,
        **_preferred(self.preferred_element_type),
      )

    return self.execute(
      inputs,
      spec=spec,
      kernel_shape=spec.kernel_shape,
      kernel_init=self.kernel_init,
      bias_init=self.bias_init if self.use_bias else None,
      param_dtype=self.param_dtype,
      contract=contract,
    )


def _pair(value: int | Sequence[int] | None, name: str) -> tuple[int, int]:
  return (1, 1) if value is None else geometry.pair(value, name)


def _preferred(dtype: Any) -> dict:
  return {} if dtype is None else {"preferred_element_type": dtype}


def _product(shape: Sequence[int]) -> int:
  total = 1
  for extent in shape:
    total *= extent
  return total
