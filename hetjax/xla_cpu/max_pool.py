"""Max pooling by the engine, in one pass over an image."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hetjax import xla_cpu
from hetjax.core.geometry import Pads, output_size


def max_pool(
  x: Float[Array, "b h w c"],
  *,
  window: tuple[int, int],
  strides: tuple[int, int],
  padding: Pads,
  dilation: tuple[int, int],
) -> Float[Array, "b ho wo c"]:
  """The largest value of every window, NaN where it holds one; float32.

  Args:
    x: Images, channels last.
    window: Its height and width.
    strides: Of the window.
    padding: Pixels of minus infinity before and after, by axis, none of them negative.
    dilation: Of the window.

  Raises:
    RuntimeError: the engine is not available.
  """
  xla_cpu.active_isa()
  size = output_size(x.shape[1:3], window, strides, padding, dilation)
  out = jax.ShapeDtypeStruct((x.shape[0], *size, x.shape[3]), jnp.float32)
  return jax.ffi.ffi_call("hetjax_max_pool", out, vmap_method="sequential")(
    x,
    window=np.asarray(window, np.int32),
    strides=np.asarray(strides, np.int32),
    padding=np.asarray(padding, np.int32).reshape(-1),
    dilation=np.asarray(dilation, np.int32),
  )
