"""Float32 convolutions of the engine and their gradients against XLA's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from hetjax import xla_cpu
from hetjax.xla_cpu.float_conv import FloatConv

# batch, height, width, channels, kernel, outputs (or depthwise), strides, padding, dilation
DEPTHWISE = "depthwise"
CASES = {
  "one": (1, 1, 1, 1, (1, 1), 1, (1, 1), ((0, 0), (0, 0)), (1, 1)),
  "padded": (3, 7, 7, 24, (3, 3), 24, (1, 1), ((1, 1), (1, 1)), (1, 1)),
  "strided": (2, 8, 7, 6, (3, 3), 16, (2, 2), ((1, 1), (1, 1)), (1, 1)),
  "strides-apart": (2, 9, 11, 5, (3, 2), 9, (3, 2), ((0, 2), (1, 0)), (1, 1)),
  "dilated": (2, 9, 9, 7, (3, 3), 33, (1, 2), ((2, 1), (0, 3)), (2, 3)),
  "image-of-one-channel": (5, 12, 12, 1, (5, 5), 40, (2, 2), ((2, 2), (2, 2)), (1, 1)),
  "skips-inputs": (2, 8, 8, 3, (1, 1), 17, (3, 3), ((0, 0), (0, 0)), (1, 1)),
  "padding-beyond-kernel": (2, 4, 5, 3, (2, 2), 4, (1, 1), ((3, 4), (0, 5)), (1, 1)),
  "wide": (1, 4, 4, 67, (3, 3), 131, (1, 1), ((1, 1), (1, 1)), (1, 1)),
  "kernel-beyond-image": (2, 3, 3, 4, (5, 5), 8, (1, 1), ((0, 0), (0, 0)), (1, 1)),
  "no-batch": (0, 5, 5, 4, (3, 3), 8, (1, 1), ((1, 1), (1, 1)), (1, 1)),
  "depthwise": (3, 7, 7, 24, (3, 3), DEPTHWISE, (1, 1), ((1, 1), (1, 1)), (1, 1)),
  "depthwise-strided": (2, 9, 8, 43, (3, 2), DEPTHWISE, (2, 3), ((1, 2), (0, 1)), (2, 1)),
  "many-small-images": (130, 2, 2, 8, (3, 3), 8, (1, 1), ((1, 1), (1, 1)), (1, 1)),
}


def _xla(conv: FloatConv, x, kernel):
  return lax.conv_general_dilated(
    x,
    kernel,
    conv.strides,
    conv.padding,
    rhs_dilation=conv.kernel_dilation,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=conv.image[3] // conv.kernel[2],
    precision=lax.Precision.HIGHEST,
  )


def _assert_close(got, want, products: int) -> None:
  # Sums of that many products of unit size, in another order.
  np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6 * max(1, products) ** 0.5 * 4)


@pytest.mark.parametrize("name", CASES)
def test_products_equal_those_of_xla(isa, name):
  b, h, w, c, kernel_size, n, strides, padding, dilation = CASES[name]
  inputs_and_outputs = (1, c) if n == DEPTHWISE else (c, n)
  conv = FloatConv((b, h, w, c), (*kernel_size, *inputs_and_outputs), strides, padding, dilation)
  rng = np.random.default_rng(0)
  draw = lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  x, kernel, g = draw(conv.image), draw(conv.kernel), draw(conv.output)
  y, pull_back = jax.vjp(functools.partial(_xla, conv), x, kernel)
  assert y.shape == conv.output
  dx, dk = pull_back(g)
  taps = kernel_size[0] * kernel_size[1]
  assert xla_cpu.active_isa() == isa
  _assert_close(conv.forward(x, kernel), y, taps * conv.kernel[2])
  _assert_close(conv.input_gradient(g, kernel), dx, taps * conv.kernel[2] * conv.kernel[3] // c)
  _assert_close(conv.kernel_gradient(x, g), dk, b * y.shape[1] * y.shape[2])


def test_a_call_that_does_not_fit_its_attributes_is_refused():
  conv = FloatConv((1, 4, 4, 2), (3, 3, 2, 5), (1, 1), ((1, 1), (1, 1)), (1, 1))
  x, kernel = jnp.zeros((1, 4, 4, 3)), jnp.zeros(conv.kernel)
  for image, shape in (((1, 4, 4, 3), (3, 3, 2, 5)), ((1, 4, 4, 3), (3, 3, 1, 6))):
    with pytest.raises(
      ValueError, match="kernel must read the image's 3 channels, or one for each"
    ):
      FloatConv(image, shape, (1, 1), ((1, 1), (1, 1)), (1, 1))
  with pytest.raises(jax.errors.JaxRuntimeError, match=r"x must have shape \(1, 4, 4, 2\), got"):
    conv.forward(x, kernel)


def test_sums_do_not_depend_on_who_is_first():
  conv = FloatConv((64, 14, 14, 24), (3, 3, 24, 48), (2, 2), ((1, 1), (1, 1)), (1, 1))
  rng = np.random.default_rng(0)
  draw = lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  x, g = draw(conv.image), draw(conv.output)
  first = np.asarray(conv.kernel_gradient(x, g))
  for _ in range(5):
    np.testing.assert_array_equal(conv.kernel_gradient(x, g), first)
