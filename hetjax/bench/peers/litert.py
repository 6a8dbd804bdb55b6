"""LiteRT (TensorFlow Lite with XNNPACK): float32, int8 and int4."""

from __future__ import annotations

import numpy as np

from hetjax.bench.peers.base import Candidate, Missing, Problem, imported, installed
from hetjax.bench.quantization import Ranges


class LiteRt:
  """The interpreter on models written by `tflite_model`, whose images are channels last.

  Attributes:
    bits: 32 for float32; 8 for static int8, and for matrices also int8 weights with activations
      quantized on the fly; 4 for the latter with int4 weights.
  """

  def __init__(self, bits: int):
    self.bits = bits
    self.name = "LiteRT " + {32: "float32", 8: "int8", 4: "int4"}[bits]

  def version(self) -> str:
    return installed("ai-edge-litert")

  def candidates(self, problem: Problem) -> list[Candidate]:
    imported("ai_edge_litert.interpreter", "ai-edge-litert")
    only_dense = all(node.op == "dense" for node in problem.graph.nodes)
    if self.bits == 4 and not only_dense:
      raise Missing("XNNPACK has int4 weights for dense layers only")
    found = []
    if self.bits != 4:
      found.append(self._candidate(problem, static=self.bits == 8))
    if self.bits != 32 and only_dense:
      found.append(self._candidate(problem, static=False))
    return found

  def _candidate(self, problem: Problem, *, static: bool) -> Candidate:
    from hetjax.bench.peers.tflite_model import to_tflite

    ranges = problem.ranges if static else None
    codes = static and problem.quantized_ends
    content = to_tflite(problem.graph, self.bits, ranges, quantized_ends=codes)
    setting = "static int8" if static else "float32" if self.bits == 32 else "dynamic range"
    return _candidate(problem, setting, content, ranges if codes else None)


def _candidate(problem: Problem, setting: str, content: bytes, ends: Ranges | None) -> Candidate:
  from ai_edge_litert.interpreter import Interpreter

  from hetjax.bench.peers.tflite_model import signed_range

  graph, x = problem.graph, problem.x
  # A copy of the model's own: weights that XNNPACK does not pack are read there.
  own = bytes(bytearray(content))
  interpreter = Interpreter(model_content=own, num_threads=problem.threads)
  interpreter.allocate_tensors()
  if ends is not None:
    x = (ends["input"].codes(x).astype(np.int16) - 128).astype(np.int8)
  interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
  output = interpreter.get_output_details()[0]["index"]

  def result():
    y = interpreter.get_tensor(output)
    if ends is not None:
      scale, zero = signed_range(ends[graph.output])
      y = (y.astype(np.float32) - zero) * np.float32(scale)
    return y

  return Candidate(
    setting,
    interpreter.invoke,
    result,
    graph.layers,
    again=lambda: _candidate(problem, setting, content, ends),
  )
