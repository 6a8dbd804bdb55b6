"""Convolutions of training: which formulation runs, and that all of them agree."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax import xla_cpu
from hetjax.ops import convolution

WINDOW = {"strides": (2, 1), "padding": ((1, 2), (0, 1)), "kernel_dilation": (1, 2)}
ENGINE = "hetjax_float_conv"
needs_engine = pytest.mark.skipif(not xla_cpu.available()[0], reason="no engine here")


def _operands(groups=1, dtype=jnp.float32, outputs=12):
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(2, 7, 6, 6)), dtype)
  kernel = jnp.asarray(rng.normal(size=(3, 2, 6 // groups, outputs)), dtype)
  return x, kernel


def _loss(convolve, x, kernel):
  return jnp.sum(jnp.sin(convolve(x, kernel)))


def _pair(groups=1):
  """The convolution, and XLA's formulation of it."""
  ours = functools.partial(convolution.convolve, groups=groups, **WINDOW)
  plain = functools.partial(convolution._convolve, groups=groups, input_dilation=(1, 1), **WINDOW)
  return functools.partial(_loss, ours), functools.partial(_loss, plain)


@needs_engine
@pytest.mark.parametrize("groups", [1, 6])
def test_only_differentiated_convolutions_run_in_the_engine(groups):
  ours, _ = _pair(groups)
  operands = _operands(groups, outputs=6)
  gradients = jax.grad(ours, (0, 1))
  assert str(jax.make_jaxpr(gradients)(*operands)).count(ENGINE) == 3
  assert ENGINE not in jax.jit(ours).lower(*operands).as_text()
  # A kernel's gradient alone does not pay for the image's.
  assert jax.jit(jax.grad(ours, 1)).lower(*operands).compile().as_text().count(f'"{ENGINE}"') == 2


@pytest.mark.parametrize("case", ["groups", "multiplied", "half"])
def test_what_the_engine_cannot_do_is_left_to_xla(case):
  groups = {"groups": 2, "multiplied": 6, "half": 1}[case]
  ours, _ = _pair(groups)
  operands = _operands(groups, jnp.bfloat16 if case == "half" else jnp.float32)
  assert ENGINE not in str(jax.make_jaxpr(jax.grad(ours))(*operands))


@pytest.mark.parametrize(("groups", "inputs"), [(1, 1), (6, 6), (6, 2)])
def test_what_fits_no_image_is_refused_in_training_too(groups, inputs):
  x, _ = _operands()
  ours, _ = _pair(groups)
  with pytest.raises((ValueError, TypeError)):
    jax.grad(ours, (0, 1))(x, jnp.ones((3, 2, inputs, 6)))


@pytest.mark.parametrize(("groups", "outputs"), [(1, 12), (2, 12), (6, 12), (6, 6)])
def test_first_and_second_derivatives_are_those_of_xla(groups, outputs):
  ours, plain = _pair(groups)
  operands = _operands(groups, outputs=outputs)

  def second(loss):
    squares = lambda *a: sum(jnp.sum(jnp.square(g)) for g in jax.grad(loss, (0, 1))(*a))
    return jax.grad(squares, (0, 1))

  for got, want in zip(jax.grad(ours, (0, 1))(*operands), jax.grad(plain, (0, 1))(*operands),
                       strict=True):  # fmt: skip
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
  for got, want in zip(second(ours)(*operands), second(plain)(*operands), strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3 * float(jnp.max(jnp.abs(want))))


@needs_engine
def test_a_batch_of_convolutions_has_the_gradients_of_each():
  ours, _ = _pair()
  x, kernel = _operands()
  images = jnp.stack([x, 2 * x])
  together = jax.vmap(jax.grad(ours), (0, None))(images, kernel)
  for image, got in zip(images, together, strict=True):
    np.testing.assert_array_equal(got, jax.grad(ours)(image, kernel))
