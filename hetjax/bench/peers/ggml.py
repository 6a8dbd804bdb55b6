"""ggml's low-bit types for dense layers, if ggml-python has been built."""

from __future__ import annotations

import ctypes
import weakref

import numpy as np

from hetjax.bench.peers.base import Candidate, Missing, Problem, imported, installed

TYPES = {8: ("Q8_0",), 4: ("Q4_0", "Q4_K"), 2: ("TQ2_0",)}


class Ggml:
  """One matrix product in a context of its own, weights in ggml's block formats.

  Attributes:
    bits: Nominal bits of the weights, a key of `TYPES`; formats of equal bits are all tried.
  """

  def __init__(self, bits: int):
    self.bits = bits
    self.name = f"ggml {bits}-bit"
    # Of the last kernel, as quantizing takes seconds and batches of a matrix follow one another.
    self._kernel: np.ndarray | None = None
    self._quantized: dict[str, np.ndarray] = {}

  def version(self) -> str:
    return installed("ggml-python")

  def candidates(self, problem: Problem) -> list[Candidate]:
    ggml = imported("ggml", "ggml-python")
    nodes = problem.graph.nodes
    if len(nodes) != 1 or nodes[0].op != "dense" or nodes[0].activation:
      raise Missing("only single dense layers are translated to ggml")
    if nodes[0].constants["kernel"].shape[0] % 256 or np.any(nodes[0].constants["bias"]):
      raise Missing("input channels must be a multiple of 256, and the bias zero")
    kernel = nodes[0].constants["kernel"]
    if self._kernel is not kernel:
      self._kernel = kernel
      self._quantized = {name: _quantize(ggml, kernel, name) for name in TYPES[self.bits]}
    return [_checked(ggml, problem, *item) for item in self._quantized.items()]


def _pointer(array: np.ndarray):
  return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def _kind(ggml, name: str) -> int:
  return getattr(ggml, f"GGML_TYPE_{name}")


def _quantize(ggml, kernel: np.ndarray, name: str) -> np.ndarray:
  """A kernel [channels, outputs] as uint8[outputs, bytes of a row] of a format's blocks."""
  kernel = np.ascontiguousarray(kernel.T)
  outputs, channels = kernel.shape
  kind = _kind(ggml, name)
  blocks = np.empty((outputs, ggml.ggml_row_size(kind, channels)), np.uint8)
  ggml.ggml_quantize_chunk(kind, _pointer(kernel), blocks.ctypes.data, 0, outputs, channels, None)
  return blocks


def _checked(ggml, problem: Problem, name: str, blocks: np.ndarray) -> Candidate:
  """A candidate that knows what its blocks should give."""
  channels = problem.graph.nodes[0].constants["kernel"].shape[0]
  rounded = np.empty((len(blocks), channels), np.float32)
  to_float = ggml.ggml_get_type_traits(_kind(ggml, name)).contents.to_float
  to_float(blocks.ctypes.data, _pointer(rounded), rounded.size)
  return _candidate(ggml, problem, name, blocks, problem.x @ rounded.T)


def _candidate(ggml, problem: Problem, name: str, blocks: np.ndarray, want) -> Candidate:
  outputs, channels = len(blocks), problem.graph.nodes[0].constants["kernel"].shape[0]
  x = np.ascontiguousarray(problem.x)
  room = blocks.nbytes + 8 * x.nbytes + 8 * outputs * len(x) + (1 << 20)
  context = ggml.ggml_init(ggml.ggml_init_params(mem_size=room, mem_buffer=None, no_alloc=False))
  weights = ggml.ggml_new_tensor_2d(context, _kind(ggml, name), channels, outputs)
  ctypes.memmove(ggml.ggml_get_data(weights), blocks.ctypes.data, blocks.nbytes)
  values = ggml.ggml_new_tensor_2d(context, ggml.GGML_TYPE_F32, channels, len(x))
  ctypes.memmove(ggml.ggml_get_data(values), x.ctypes.data, x.nbytes)
  product = ggml.ggml_mul_mat(context, weights, values)
  graph = ggml.ggml_new_graph(context)
  ggml.ggml_build_forward_expand(graph, product)
  plan = ggml.ggml_graph_plan(graph, problem.threads, None)
  work = np.zeros(max(int(plan.work_size), 1), np.uint8)
  plan.work_data = work.ctypes.data_as(type(plan.work_data))

  def run(alive=(work, context)):
    ggml.ggml_graph_compute(graph, ctypes.byref(plan))

  def result():
    out = np.empty((len(x), outputs), np.float32)
    ctypes.memmove(out.ctypes.data, ggml.ggml_get_data(product), out.nbytes)
    return out

  weakref.finalize(run, ggml.ggml_free, context)
  again = lambda: _candidate(ggml, problem, name, blocks, want)
  return Candidate(name, run, result, want=want, again=again)
