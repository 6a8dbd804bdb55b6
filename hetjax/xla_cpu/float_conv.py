"""Float32 convolutions and their gradients by the engine, for training on CPU."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hetjax.core.geometry import Pads, output_size
from hetjax.xla_cpu import library


@dataclasses.dataclass(frozen=True)
class FloatConv:
  """A convolution without groups or with one per channel, NHWC images, HWIO kernels; hashable.

  Attributes:
    image: Batch, height, width, channels of the input.
    kernel: Height, width, input channels, outputs of the kernel. One input channel of several, and
      as many outputs as those, make it depthwise.
    strides: Of the window.
    padding: Zeros before and after, by axis.
    kernel_dilation: Of the window.

  Raises:
    ValueError: the kernel's channels are neither the image's nor those of a depthwise convolution.
  """

  image: tuple[int, int, int, int]
  kernel: tuple[int, int, int, int]
  strides: tuple[int, int]
  padding: Pads
  kernel_dilation: tuple[int, int]

  def __post_init__(self):
    channels = self.image[3]
    if self.kernel[2] != channels and self.kernel[2:] != (1, channels):
      raise ValueError(
        f"kernel must read the image's {channels} channels, or one for each of {channels} outputs, "
        f"got kernel {self.kernel}"
      )

  @property
  def output(self) -> tuple[int, int, int, int]:
    """Shape of the result."""
    height, width = output_size(
      self.image[1:3], self.kernel[:2], self.strides, self.padding, self.kernel_dilation
    )
    return (self.image[0], height, width, self.kernel[3])

  def forward(self, x: Float[Array, "b h w c"], kernel: Float[Array, "kh kw cg n"]) -> Array:
    """The convolution, [b, ho, wo, n]."""
    return self._call("forward", x, kernel, self.output)

  def input_gradient(
    self, y_gradient: Float[Array, "b ho wo n"], kernel: Float[Array, "kh kw cg n"]
  ) -> Array:
    """Gradient of `x`, [b, h, w, c], from that of the result."""
    return self._call("input_gradient", y_gradient, kernel, self.image)

  def kernel_gradient(
    self, x: Float[Array, "b h w c"], y_gradient: Float[Array, "b ho wo n"]
  ) -> Array:
    """Gradient of the kernel, [kh, kw, cg, n], from that of the result."""
    return self._call("kernel_gradient", x, y_gradient, self.kernel)

  def _call(self, product: str, a: Array, b: Array, shape: tuple[int, ...]) -> Array:
    library.require()
    out = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.ffi.ffi_call("hetjax_float_conv", out, vmap_method="sequential")(
      a,
      b,
      product=product,
      image=np.asarray(self.image, np.int32),
      kernel=np.asarray(self.kernel, np.int32),
      strides=np.asarray(self.strides, np.int32),
      padding=np.asarray(self.padding, np.int32).reshape(-1),
      kernel_dilation=np.asarray(self.kernel_dilation, np.int32),
    )
