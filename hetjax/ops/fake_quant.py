"""Quantizers of activations in training: rounded or noisy values, with gradients.

The functions are those of `core.quantize`; where a call is differentiated on CPU, their gradients
are the engine's, one pass over the activations instead of several.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from hetjax.core import quantize
from hetjax.ops.convolution import engine_differentiates, with_gradients_of
from hetjax.xla_cpu.float_quantizer import quantizer_gradient


def rounded(
  x: Float[Array, "*b c"],
  inv_scale: Float[Array, ""],
  bits: Int[Array, " c"],
  *,
  signed: bool,
  factor: float = 1.0,
) -> Float[Array, "*b c"]:
  """`factor` times `quantize.straight_through` of `x * inv_scale`.

  Args:
    x: Activations, float32.
    inv_scale: Reciprocal of their scale; receives a gradient.
    bits: Precision of each channel; receives none.
    signed: Of the grid.
    factor: A power of two.
  """
  if not engine_differentiates(x):
    return quantize.straight_through(quantize.to_grid(x, inv_scale), bits, signed) * factor
  return _rounded(x, inv_scale, bits, signed, factor)


def noisy(
  x: Float[Array, "*b c"],
  inv_scale: Float[Array, ""],
  sigma: Float[Array, " c"],
  noise: Float[Array, "*b c"],
  *,
  signed: bool,
) -> Float[Array, "*b c"]:
  """`x * inv_scale`, clipped and with noise in place of rounding: `quantize.inject_noise`.

  Args:
    x: Activations, float32.
    inv_scale: Reciprocal of their scale.
    sigma: Learned noise magnitude of each channel.
    noise: Uniform in [-1, 1); counts as a constant.
    signed: Of the grid.
  """
  if not engine_differentiates(x):
    return quantize.inject_noise(quantize.to_grid(x, inv_scale), sigma, noise, signed=signed)
  return _noisy(x, inv_scale, sigma, noise, signed)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _rounded(x, inv_scale, bits, signed, factor):
  return quantize.straight_through(quantize.to_grid(x, inv_scale), bits, signed) * factor


def _rounded_fwd(x, inv_scale, bits, signed, factor):
  return _rounded(x, inv_scale, bits, signed, factor), (x, inv_scale, bits)


def _rounded_bwd(signed, factor, kept, g):
  x, inv_scale, bits = kept
  sigma = jnp.broadcast_to(quantize.sigma_of_bits(bits), x.shape[-1:])
  dx, d_inv, _ = _engine_gradient(signed, True, factor)(g, x, inv_scale, sigma, x)
  return dx, d_inv, None


_rounded.defvjp(_rounded_fwd, _rounded_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _noisy(x, inv_scale, sigma, noise, signed):
  return quantize.inject_noise(quantize.to_grid(x, inv_scale), sigma, noise, signed=signed)


def _noisy_fwd(x, inv_scale, sigma, noise, signed):
  y = _noisy(x, inv_scale, sigma, noise, signed)
  return y, (x, inv_scale, sigma, y)


def _noisy_bwd(signed, kept, g):
  x, inv_scale, sigma, y = kept
  return *_engine_gradient(signed, False, 1.0)(g, x, inv_scale, sigma, y), None


_noisy.defvjp(_noisy_fwd, _noisy_bwd)


@functools.cache
def _engine_gradient(signed: bool, is_rounded: bool, factor: float):
  """The engine's gradient, itself differentiated as the plain one."""

  def call(gradient, g, x, inv_scale, sigma, y):
    y = None if is_rounded else y
    return gradient(g, x, inv_scale, sigma, signed=signed, values=y, factor=factor)

  plain, fast = (functools.partial(call, f) for f in (plain_gradient, quantizer_gradient))
  return with_gradients_of(plain, fast)


def plain_gradient(
  g: Float[Array, "*b c"],
  x: Float[Array, "*b c"],
  inv_scale: Float[Array, ""],
  sigma: Float[Array, " c"],
  *,
  signed: bool,
  values: Float[Array, "*b c"] | None = None,
  factor: float = 1.0,
) -> tuple[Float[Array, "*b c"], Float[Array, ""], Float[Array, " c"]]:
  """What `xla_cpu.float_quantizer.quantizer_gradient` computes, which see."""
  g = g * factor
  normal = ~(jnp.abs(x) <= jnp.finfo(jnp.float32).tiny)  # NaN passes
  value = jnp.where(normal, x, 0.0)
  grid = value * inv_scale
  top = quantize.grid_top(sigma, signed)
  low = -top if signed else jnp.zeros_like(top)
  d_sigma = jnp.zeros_like(sigma)
  if values is None:
    inside = (grid >= low) & (grid <= top)
  else:
    inside = (grid > low) & (grid < top)
    slope = -1.0 if signed else -2.0  # of top in sigma
    below = jnp.where(grid < low, -slope, 0.0) if signed else 0.0
    noise = (values - jnp.clip(grid, low, top)) / jnp.maximum(sigma, jnp.finfo(jnp.float32).tiny)
    terms = g * (noise + jnp.where(grid > top, slope, below))
    d_sigma = jnp.sum(terms, axis=tuple(range(x.ndim - 1)))
  passed = jnp.where(inside, g, 0.0)
  return jnp.where(normal, passed * inv_scale, 0.0), jnp.sum(passed * value), d_sigma
