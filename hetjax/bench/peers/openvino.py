"""OpenVINO on CPU with the latency hint: float32, statically quantized int8, int4 dense layers."""

from __future__ import annotations

import sys

import numpy as np

from hetjax.bench.peers.base import Candidate, Missing, Problem, imported, installed
from hetjax.bench.quantization import Ranges


class OpenVino:
  """Compiled models with tensors set once, images channels last and first.

  Attributes:
    bits: 32 for float32 (precision hint f32), 8 for QDQ models and dense layers with int8 weights
      alone, 4 for dense layers with int4 weights alone.
  """

  def __init__(self, bits: int):
    self.bits = bits
    self.name = "OpenVINO " + {32: "float32", 8: "int8", 4: "int4"}[bits]

  def version(self) -> str:
    return installed("openvino")

  def candidates(self, problem: Problem) -> list[Candidate]:
    # Without it OpenVINO falls back to a stub that starts no process and sends nothing.
    sys.modules.setdefault("openvino_telemetry", None)
    imported("openvino", "openvino")
    imported("onnx", "onnx")
    found = [] if self.bits == 4 else _graph_candidates(problem, self.bits)
    if self.bits != 32:
      found += _weights_only(problem, self.bits, alone=not found)
    return found


def _graph_candidates(problem: Problem, bits: int) -> list[Candidate]:
  from hetjax.bench import onnx_graph

  graph, found = problem.graph, []
  ranges = problem.ranges if bits == 8 else None
  ends = ranges if problem.quantized_ends else None
  for last in (True, False) if len(graph.shape) == 4 else (True,):
    model = onnx_graph.to_onnx(graph, ranges, channels_last=last, quantized_ends=ends is not None)
    setting = onnx_graph.setting(graph, last)
    found.append(_candidate(problem, setting, model.SerializeToString(), ends, last))
  return found


def _weights_only(problem: Problem, bits: int, *, alone: bool) -> list[Candidate]:
  """A dense layer with weights alone quantized, where the graph is one; must be if `alone`."""
  from hetjax.bench.peers import onnx_dense

  try:
    model = onnx_dense.weights_only(problem.graph, bits)
  except Missing:
    if alone:
      raise
    return []
  # Groups of activations are quantized on the fly where that helps.
  more = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "128"}
  return [_candidate(problem, "weights only", model.SerializeToString(), more=more)]


def _candidate(
  problem: Problem,
  setting: str,
  model: bytes,
  ends: Ranges | None = None,
  channels_last: bool = True,
  more: dict[str, str] | None = None,
) -> Candidate:
  import openvino as ov

  from hetjax.bench import onnx_graph

  core = ov.Core()
  settings = {
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_NUM_THREADS": problem.threads,
    "NUM_STREAMS": 1,
    "INFERENCE_PRECISION_HINT": "f32",
  } | (more or {})
  # A copy of the model's own: weights that need no other layout are read there.
  own = bytes(bytearray(model))
  compiled = core.compile_model(core.read_model(own, b""), "CPU", settings)
  request = compiled.create_infer_request()
  request.set_input_tensor(ov.Tensor(onnx_graph.encoded(problem.x, ends, channels_last)))

  def result():
    y = np.array(request.get_output_tensor().data)
    return onnx_graph.decoded(y, problem.graph, ends, channels_last)

  run = lambda: request.infer(share_inputs=True, share_outputs=True)
  again = lambda: _candidate(problem, setting, model, ends, channels_last, more)
  return Candidate(setting, run, result, problem.graph.layers, again=again)
