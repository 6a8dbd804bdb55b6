"""Quantize, dequantize, straight-through and noise, for signed and unsigned tensors.

All functions work in grid units: the tensor has been multiplied by the reciprocal of its scale
(alpha for weights, beta for activations) before. `sigma` is half the grid's spacing and broadcasts
against the tensor, so that every channel may have its own precision.

Rounding is to the nearest level, ties to the higher code. The formulas use a product, `floor` and
integer arithmetic only: no multiplication feeds an addition, so a compiler that contracts
`a * b + c` into one instruction (XLA on CPU does) cannot change a code. NumPy, jitted and un-jitted
JAX and the C++ kernels therefore agree bit for bit (docs/arithmetic.md).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Shaped

_TINY = np.finfo(np.float32).tiny  # the least normal number


def sigma_of_bits(bits: Shaped[Array, "*c"], xp=jnp) -> Float[Array, "*c"]:
  """`2^(1 - bits)` as exact float32 for integer bits 1..8."""
  bits = xp.asarray(bits, xp.int32)
  return (xp.float32(1.0) / (xp.left_shift(1, bits - 1)).astype(xp.float32)).astype(xp.float32)


def grid_top(sigma: Float[Array, "*c"], signed: bool) -> Float[Array, "*c"]:
  """Largest value of the grid: `2 - sigma` if signed, `4 - 2 sigma` if unsigned."""
  return 2.0 - sigma if signed else 4.0 - 2.0 * sigma


def flush_subnormals(x: Float[Array, "*n"], xp=jnp) -> Float[Array, "*n"]:
  """Subnormal float32 values as zero, on every backend alike.

  XLA on CPU runs with subnormals flushed, NumPy does not; on the signed grid the sign of a
  subnormal would otherwise decide between two codes. The least normal number goes with them: a
  product just below it rounds up to it where subnormals exist, and to zero where they do not.
  """
  return xp.where(xp.abs(x) <= xp.float32(_TINY), xp.float32(0.0), x)


def to_grid(x: Float[Array, "*n"], inv_scale: Float[Array, ""], xp=jnp) -> Float[Array, "*n"]:
  """Values in grid units: times the float32 reciprocal of their scale, rounded once."""
  return flush_subnormals(x, xp) * inv_scale


def encode(
  x: Float[Array, "*n"], bits: Shaped[Array, "*c"], *, signed: bool, xp=jnp
) -> Int[Array, "*n"]:
  """Codes of the nearest levels, ties to the higher code, clipped to `0 .. 2^bits - 1`.

  Args:
    x: Values in grid units, float32. NaN gives code 0; subnormals count as zero.
    bits: Precision per element, integers, broadcasting against `x`.
    signed: Odd grid around zero if true, otherwise the grid that starts at an exact zero.
    xp: `jax.numpy` or `numpy`; both give the same codes.

  Returns:
    int32 codes u: `floor(x / (2 sigma) + 2^(bits - 1))` if signed, `floor(x / (2 sigma) + 1/2)` if
    unsigned.
  """
  bits = xp.asarray(bits, xp.int32)
  top = xp.left_shift(1, bits) - 1
  half = xp.left_shift(1, bits - 1)
  x = flush_subnormals(x, xp)
  scale = half.astype(xp.float32)  # 1 / sigma, a power of two: products with it are exact
  two, least, zero = xp.float32(2.0), xp.float32(-2.0), xp.float32(0.0)
  if signed:
    x = xp.where(x > least, xp.minimum(x, two), least)  # NaN -> lowest
    u = xp.floor(x * (scale / two)).astype(xp.int32) + half
  else:
    x = xp.where(x > 0, xp.minimum(x, two + two), zero)
    # floor(t + 1/2) == (floor(2 t) + 1) div 2
    u = xp.right_shift(xp.floor(x * scale).astype(xp.int32) + 1, 1)
  return xp.clip(u, 0, top)


def levels_of_codes(codes: Int[Array, "*n"], bits: Shaped[Array, "*c"], *, signed: bool, xp=jnp):
  """Integer levels of codes: odd `q = 2u - (2^bits - 1)` if signed, `u` itself if unsigned."""
  codes = xp.asarray(codes, xp.int32)
  if not signed:
    return codes
  return 2 * codes - (xp.left_shift(1, xp.asarray(bits, xp.int32)) - 1)


def decode(
  codes: Int[Array, "*n"], bits: Shaped[Array, "*c"], *, signed: bool, xp=jnp
) -> Float[Array, "*n"]:
  """Values in grid units: `sigma q` if signed, `2 sigma u` if unsigned; exact float32."""
  q = levels_of_codes(codes, bits, signed=signed, xp=xp).astype(xp.float32)
  return q * sigma_of_bits(bits, xp) * xp.float32(1.0 if signed else 2.0)


def accumulator_levels(codes, bits, pmax: int, *, signed: bool, xp=jnp):
  """Integer levels scaled to the finest: `2^(pmax - bits)` times q (or u), int32.

  The product of two such tensors summed over all channels is the accumulator
  `T = sum_p 4^(pmax - p) S_p` of docs/arithmetic.md.
  """
  q = levels_of_codes(codes, bits, signed=signed, xp=xp)
  return xp.left_shift(q, pmax - xp.asarray(bits, xp.int32))


def _made(x: Array) -> Array:
  """An array that XLA computes before the sums that read it.

  Fused into a sum over all but the channels, elementwise arithmetic loses its vectors on CPU: the
  sum then takes longer than both do one after the other.
  """
  return lax.optimization_barrier(x)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def straight_through(
  x: Float[Array, "*n"], bits: Shaped[Array, "*c"], signed: bool, pull_back: bool = False
) -> Float[Array, "*n"]:
  """Quantized values whose gradient is that of clipping to the grid's range.

  Args:
    x: Values in grid units.
    bits: Precision per element (integers), broadcasting against `x`; receives no gradient.
    signed: See `encode`.
    pull_back: Also pass gradients of values outside the range whose descent step brings them back
      inside. For weights, which would otherwise be stuck outside; never for activations.

  Returns:
    Exactly `decode(encode(x))`.
  """
  del pull_back
  return decode(encode(x, bits, signed=signed), bits, signed=signed)


def _straight_through_fwd(x, bits, signed, pull_back):
  return straight_through(x, bits, signed, pull_back), (x, bits)


def _straight_through_bwd(signed, pull_back, residuals, g):
  x, bits = residuals
  top = grid_top(sigma_of_bits(bits), signed)
  low = -top if signed else jnp.zeros_like(top)
  inside = (x >= low) & (x <= top)
  if pull_back:
    inside |= ((x > top) & (g > 0)) | ((x < low) & (g < 0))
  return _made(jnp.where(inside, g, 0.0)), None


straight_through.defvjp(_straight_through_fwd, _straight_through_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def _inject_noise(x, sigma, noise, signed):
  return _clip(x, sigma, signed) + jnp.where((x > 0) | signed, sigma * noise, 0.0)


def _clip(x, sigma, signed: bool):
  top = grid_top(sigma, signed)
  return jnp.clip(x, -top if signed else 0.0, top)


def _inject_noise_fwd(x, sigma, noise, signed):
  noisy = _inject_noise(x, sigma, noise, signed)
  return noisy, (x, sigma, noisy)


def _inject_noise_bwd(signed, residuals, g):
  # The noise is read off the result, which the layer keeps anyway: to draw it anew, or to keep it,
  # would cost more than the layer's own arithmetic.
  x, sigma, noisy = residuals
  top = grid_top(sigma, signed)
  low = -top if signed else jnp.zeros_like(top)
  slope = -1.0 if signed else -2.0  # of top in sigma
  noise = (noisy - _clip(x, sigma, signed)) / jnp.maximum(sigma, _TINY)
  beyond = jnp.where(x > top, slope, jnp.where(x < low, -slope, 0.0) if signed else 0.0)
  d_sigma = _sum_to(_made(g * (noise + beyond)), sigma.shape)
  return _made(jnp.where((x > low) & (x < top), g, 0.0)), d_sigma, None


_inject_noise.defvjp(_inject_noise_fwd, _inject_noise_bwd)


def _sum_to(x: Array, shape: tuple[int, ...]) -> Array:
  """Sums over the axes along which an array of `shape` was broadcast to that of `x`."""
  lead = x.ndim - len(shape)
  ones = tuple(lead + i for i, n in enumerate(shape) if n == 1 and x.shape[lead + i] != 1)
  return jnp.sum(x, axis=(*range(lead), *ones)).reshape(shape)


def inject_noise(
  x: Float[Array, "*n"], sigma: Float[Array, "*c"], noise: Float[Array, "*n"], *, signed: bool
) -> Float[Array, "*n"]:
  """Clips to the grid's range and adds `sigma * noise`, the stand-in for the rounding error.

  Args:
    x: Values in grid units.
    sigma: Learned noise magnitude per channel; receives gradients through noise and range.
    noise: Uniform in [-1, 1), shape of `x`.
    signed: Range `+-(2 - sigma)` if true, `[0, 4 - 2 sigma]` if not.

  Returns:
    Noisy values. An unsigned value that clips to zero stays an exact zero: it is on every grid, its
    rounding error is none. Differentiable in reverse mode, in `x` and `sigma`; `noise` counts as a
    constant.
  """
  return _inject_noise(x, sigma, noise, signed)
