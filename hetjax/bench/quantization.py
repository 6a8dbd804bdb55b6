"""Static int8 quantization of a graph, as peers with int8 arithmetic want it.

Activations are uint8 with a scale and a zero point per tensor, from their range on one input;
weights are symmetric int8 per output channel. Weights keep to 7 bits: processors without VNNI add
pairs of uint8 x int8 products in saturating int16, which 8 bits would overflow. It costs no time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int8, UInt8

from hetjax.bench.execute import constants_of, execute
from hetjax.bench.graph import Graph, Node

TOPS = {8: 63, 4: 7}  # largest magnitudes of weight codes by bits
IMAGE_OPS = ("conv", "add", "max_pool", "mean", "flatten")


@dataclasses.dataclass(frozen=True)
class Range:
  """How a tensor becomes uint8: `round(x / scale) + zero_point`, clipped to 0 .. 255."""

  scale: float
  zero_point: int

  def fake(self, x, xp=jnp):
    """Values as they are after quantization and back."""
    codes = xp.clip(xp.round(x / xp.float32(self.scale)) + self.zero_point, 0, 255)
    return (codes - self.zero_point) * xp.float32(self.scale)

  def codes(self, x: np.ndarray) -> np.ndarray:
    """uint8 codes of float32 values."""
    return np.clip(np.round(x / np.float32(self.scale)) + self.zero_point, 0, 255).astype(np.uint8)

  def values(self, codes: np.ndarray) -> np.ndarray:
    """float32 values of codes."""
    return (codes.astype(np.float32) - self.zero_point) * np.float32(self.scale)


Ranges = Mapping[str, Range]


def runs_quantized(node: Node, graph: Graph) -> bool:
  """Whether a node reads uint8: convolutions, dense layers, and what lies between convolutions.

  Sums of a network without convolutions feed norms, which are float: they stay float.
  """
  has_convs = any(n.op == "conv" for n in graph.nodes)
  return node.op == "dense" or (has_convs and node.op in IMAGE_OPS)


def quantized_tensors(graph: Graph) -> list[str]:
  """Tensors that are kept as uint8: those that some quantized node reads."""
  names = ["input", *(node.output for node in graph.nodes)]
  return [t for t in names if any(runs_quantized(n, graph) for n in graph.consumers(t))]


def ranges_of(graph: Graph, x: np.ndarray) -> dict[str, Range]:
  """Ranges of every tensor of a graph on one input, zero included in each."""

  @jax.jit
  def limits(constants, x):
    seen = {}

    def observe(name, value):
      seen[name] = (jnp.minimum(jnp.min(value), 0.0), jnp.maximum(jnp.max(value), 0.0))
      return value

    execute(graph, constants, x, observe)
    return seen

  found = {}
  for name, (low, high) in limits(constants_of(graph), jnp.asarray(x)).items():
    scale = max(float(high) - float(low), 1e-6) / 255
    found[name] = Range(float(np.float32(scale)), round(-float(low) / scale))
  return found


def quantize_kernel(
  kernel: Float[np.ndarray, "*k n"], bits: int = 8
) -> tuple[Int8[np.ndarray, "*k n"], Float[np.ndarray, " n"]]:
  """Symmetric codes, within +-63 at 8 bits and +-7 at 4, and scales per output channel."""
  scale = np.abs(kernel).reshape(-1, kernel.shape[-1]).max(axis=0) / TOPS[bits]
  scale = np.maximum(scale, 1e-12).astype(np.float32)
  return np.round(kernel / scale).astype(np.int8), scale


def pack_int4(codes: Int8[np.ndarray, "*b n"]) -> UInt8[np.ndarray, "*b half"]:
  """Codes of 4 bits two a byte along the last axis, the first in the low half."""
  if codes.shape[-1] % 2:
    codes = np.concatenate([codes, np.zeros_like(codes[..., :1])], axis=-1)
  half = codes.astype(np.uint8) & 15
  return half[..., ::2] | (half[..., 1::2] << 4)


def run_rounded(graph: Graph, x: np.ndarray, bits: int) -> np.ndarray:
  """The graph in float32 with its kernels rounded to `bits` bits, activations left alone."""
  return _run(graph, x, bits, None)


def run_quantized(
  graph: Graph, x: np.ndarray, ranges: Ranges, quantized_output: bool
) -> np.ndarray:
  """What an int8 peer should compute: the graph in float32 on quantized tensors and weights."""
  kept = set(quantized_tensors(graph)) | ({graph.output} if quantized_output else set())
  return _run(graph, x, 8, lambda name, value: ranges[name].fake(value) if name in kept else value)


def _run(graph: Graph, x: np.ndarray, bits: int, observe) -> np.ndarray:
  constants = constants_of(graph)
  for values in constants:
    if "kernel" in values:
      codes, scale = quantize_kernel(np.asarray(values["kernel"]), bits)
      values["kernel"] = jnp.asarray(codes.astype(np.float32) * scale)
  with jax.default_matmul_precision("highest"):
    call = jax.jit(lambda constants, x: execute(graph, constants, x, observe))
    return np.asarray(call(constants, jnp.asarray(x)))
