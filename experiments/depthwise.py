"""Depthwise convolution in training: XLA's grouped convolution against shifted multiply-adds.

The measurement behind `ops.convolution.convolve`. Both are timed in turns, forward alone and with
both gradients, on MobileNet-like layers.

Command: python -m experiments.depthwise --json runs/depthwise.json
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from jax import lax

from hetjax.bench import interleaved
from hetjax.ops.convolution import shifted_depthwise
from hetjax.report import Column, render, write_json

LAYERS = ((32, 28, 32, 1), (32, 28, 64, 2), (32, 14, 128, 1), (32, 7, 256, 1))
PADS = ((1, 1), (1, 1))

_JSON = flags.DEFINE_string("json", None, "Result file.")

COLUMNS = (
  Column("layer", "batch x size x channels / stride"),
  Column("lax_forward_ms", "lax forward ms", lambda v: f"{v:.2f}"),
  Column("shifted_forward_ms", "shifted", lambda v: f"{v:.2f}"),
  Column("lax_gradient_ms", "lax with gradients ms", lambda v: f"{v:.2f}"),
  Column("shifted_gradient_ms", "shifted", lambda v: f"{v:.2f}"),
)


def grouped(x, kernel, strides):
  """XLA's own grouped convolution."""
  return lax.conv_general_dilated(
    x,
    kernel,
    strides,
    PADS,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    feature_group_count=x.shape[3],
  )


def shifted(x, kernel, strides):
  """The sum of shifted, scaled images."""
  return shifted_depthwise(x, kernel, strides, PADS, (1, 1))


def measure(batch: int, size: int, channels: int, stride: int) -> dict:
  """One row: milliseconds of both formulations on a 3x3 layer."""
  rng = np.random.default_rng(0)
  x = jnp.asarray(rng.normal(size=(batch, size, size, channels)), jnp.float32)
  kernel = jnp.asarray(rng.normal(size=(3, 3, 1, channels)), jnp.float32)
  calls = {}
  for name, conv in (("lax", grouped), ("shifted", shifted)):
    forward = jax.jit(lambda x, k, conv=conv: conv(x, k, (stride, stride)))
    loss = lambda x, k, conv=conv: jnp.sum(conv(x, k, (stride, stride)) ** 2)
    gradient = jax.jit(jax.grad(loss, (0, 1)))
    calls[f"{name}_forward_ms"] = lambda f=forward: f(x, kernel)
    calls[f"{name}_gradient_ms"] = lambda f=gradient: f(x, kernel)
  times = interleaved(calls, seconds=3.0, least=5)
  row = {"layer": f"{batch} x {size} x {channels} / {stride}"}
  return row | {name: 1e3 * timing.median for name, timing in times.items()}


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"unexpected arguments {argv[1:]}")
  rows = [measure(*layer) for layer in LAYERS]
  print(render(rows, COLUMNS))
  if _JSON.value:
    write_json(_JSON.value, rows)


if __name__ == "__main__":
  app.run(main)
