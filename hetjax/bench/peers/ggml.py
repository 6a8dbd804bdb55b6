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

  def version(self) -> str:
    return installed("ggml-python")

  def candidates(self, problem: Problem) -> list[Candidate]:
    ggml = imported("ggml", "ggml-python")
    nodes = problem.graph.nodes
    if len(nodes) != 1 or nodes[0].op != "dense" or nodes[0].activation:
      raise Missing("only single dense layers are translated to ggml")
    if nodes[0].constants["kernel"].shape[0] % 256 or np.any(nodes[0].constants["bias"]):
      raise Missing("input channels must be a multiple of 256, and the bias zero")
    return [_candidate(ggml, problem, name) for name in TYPES[self.bits]]


def _pointer(array: np.ndarray):
  return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


def _candidate(ggml, problem: Problem, name: str) -> Candidate:
  kernel = np.ascontiguousarray(problem.graph.nodes[0].constants["kernel"].T)
  outputs, channels = kernel.shape
  x = np.ascontiguousarray(problem.x)
  kind = getattr(ggml, f"GGML_TYPE_{name}")
  room = 2 * kernel.nbytes + 8 * x.nbytes + (64 << 20)
  context = ggml.ggml_init(ggml.ggml_init_params(mem_size=room, mem_buffer=None, no_alloc=False))
  weights = ggml.ggml_new_tensor_2d(context, kind, channels, outputs)
  ggml.ggml_quantize_chunk(
    kind, _pointer(kernel), ggml.ggml_get_data(weights), 0, outputs, channels, None
  )
  values = ggml.ggml_new_tensor_2d(context, ggml.GGML_TYPE_F32, channels, len(x))
  ctypes.memmove(ggml.ggml_get_data(values), x.ctypes.data, x.nbytes)
  product = ggml.ggml_mul_mat(context, weights, values)
  graph = ggml.ggml_new_graph(context)
  ggml.ggml_build_forward_expand(graph, product)
  plan = ggml.ggml_graph_plan(graph, problem.threads, None)
  work = np.zeros(max(int(plan.work_size), 1), np.uint8)
  plan.work_data = work.ctypes.data_as(type(plan.work_data))

  rounded = np.empty_like(kernel)
  to_float = ggml.ggml_get_type_traits(kind).contents.to_float
  to_float(ggml.ggml_get_data(weights), _pointer(rounded), rounded.size)

  def run(alive=(work, context)):
    ggml.ggml_graph_compute(graph, ctypes.byref(plan))

  def result():
    out = np.empty((len(x), outputs), np.float32)
    ctypes.memmove(out.ctypes.data, ggml.ggml_get_data(product), out.nbytes)
    return out

  weakref.finalize(run, ggml.ggml_free, context)
  return Candidate(name, run, result, want=x @ rounded.T)
