"""Convolutions in training: XLA's own against what `ops.convolution.convolve` makes of them.

Both are timed in turns: the forward pass alone, and with the gradients of image and kernel.

Command: python -m experiments.convolutions --json runs/convolutions.json
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jax import lax

from hetjax.bench import interleaved
from hetjax.ops import convolution
from hetjax.report import Column, render, write_json

# batch, size, input channels, outputs, kernel, stride, groups
LAYERS = (
  (32, 28, 32, 32, 3, 1, 32),
  (32, 28, 64, 64, 3, 2, 64),
  (32, 7, 256, 256, 3, 1, 256),
  (64, 28, 1, 24, 3, 2, 1),
  (64, 14, 64, 64, 1, 1, 1),
  (64, 14, 24, 48, 1, 2, 1),
  (64, 14, 24, 24, 3, 1, 1),
  (64, 14, 24, 48, 3, 2, 1),
  (64, 7, 48, 48, 3, 1, 1),
  (64, 4, 32, 64, 3, 2, 1),
  (64, 3, 64, 64, 3, 1, 1),
  (64, 4, 64, 64, 3, 1, 1),
  (64, 14, 32, 32, 3, 1, 1),
)

_JSON = flags.DEFINE_string("json", None, "Result file.")

COLUMNS = (
  Column("layer", "batch x size x channels -> outputs, kernel / stride"),
  Column("xla_forward_ms", "XLA forward ms", lambda v: f"{v:.2f}"),
  Column("ours_forward_ms", "ours", lambda v: f"{v:.2f}"),
  Column("xla_gradient_ms", "XLA with gradients ms", lambda v: f"{v:.2f}"),
  Column("ours_gradient_ms", "ours", lambda v: f"{v:.2f}"),
)


def measure(batch, size, channels, outputs, kernel_size, stride, groups) -> dict:
  """One row: milliseconds of XLA's convolution and of the alternative, padding as for "SAME"."""
  rng = np.random.default_rng(0)
  side = kernel_size // 2
  pads, strides = ((side, side), (side, side)), (stride, stride)
  x = jnp.asarray(rng.normal(size=(batch, size, size, channels)), jnp.float32)
  shape = (kernel_size, kernel_size, channels // groups, outputs)
  kernel = jnp.asarray(rng.normal(size=shape), jnp.float32)

  def ours(x, k):
    return convolution.convolve(
      x, k, strides=strides, padding=pads, kernel_dilation=(1, 1), groups=groups
    )

  def xla(x, k):
    dimensions = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
      x, k, strides, pads, dimension_numbers=dimensions, feature_group_count=groups
    )

  calls = {}
  for name, conv in (("xla", xla), ("ours", ours)):
    forward = jax.jit(conv)
    gradient = jax.jit(jax.grad(lambda x, k, conv=conv: jnp.sum(conv(x, k) ** 2), (0, 1)))
    calls[f"{name}_forward_ms"] = lambda f=forward: f(x, kernel)
    calls[f"{name}_gradient_ms"] = lambda f=gradient: f(x, kernel)
  times = interleaved(calls, seconds=2.0, least=5)
  kind = "depthwise " if groups > 1 else ""
  layer = f"{kind}{batch} x {size} x {channels} -> {outputs}, {kernel_size} / {stride}"
  return {"layer": layer} | {name: 1e3 * timing.median for name, timing in times.items()}


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments {argv[1:]}")
  rows = [measure(*layer) for layer in LAYERS]
  print(render(rows, COLUMNS))
  if _JSON.value:
    write_json(_JSON.value, rows)


if __name__ == "__main__":
  app.run(main)
