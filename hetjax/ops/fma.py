"""The epilogue's fused multiply-add, exactly rounded however XLA compiles it.

XLA has no such operation. Whether a product and a sum in float32 become one depends on how the loop
around them was compiled; in float64 the product is exact, so nothing depends on that.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int


@jax.custom_jvp
def fma(
  x: Float[Array, "*b n"] | Int[Array, "*b n"],
  scale: Float[Array, " n"],
  bias: Float[Array, " n"] | Float[Array, ""],
) -> Float[Array, "*b n"]:
  """`float32(x) * scale + bias` with one rounding, to nearest and to even.

  The sum is rounded to odd in float64 and then to float32, which equals one rounding (Boldo and
  Melquiond, 2008). XLA may flush subnormal operands and results to zero. Differentiating this is
  an error: the bits of the sum are read.

  Args:
    x: Accumulators; those of 32-bit integers are rounded to float32 first.
    scale: float32.
    bias: float32.
  """
  x = x.astype(jnp.float32)
  with jax.enable_x64(True):
    x, scale, bias = (lax.convert_element_type(v, jnp.float64) for v in (x, scale, bias))
    product, bias = x * scale, jnp.broadcast_to(bias, x.shape)
    total = product + bias
    shifted = total - product
    error = (product - (total - shifted)) + (bias - shifted)  # Knuth's TwoSum: exact
    bits = lax.bitcast_convert_type(total, jnp.int64)
    is_inexact = jnp.abs(error) > 0  # not if it is NaN, as where the sum is infinite
    step = jnp.where((error > 0) == (total > 0), 1, -1)  # away from zero, or towards it
    bits = jnp.where(is_inexact & ((bits & 1) == 0), bits + step, bits)
    odd = lax.bitcast_convert_type(bits, jnp.float64)
    return lax.convert_element_type(odd, jnp.float32)


@fma.defjvp
def _refuse(primals, tangents):
  del primals, tangents
  raise TypeError("fma has no derivative: differentiate the product and the sum instead")
