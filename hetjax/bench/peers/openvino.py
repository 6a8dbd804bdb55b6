"""OpenVINO on CPU with the latency hint, float32 and statically quantized int8."""

from __future__ import annotations

import sys

import numpy as np

from hetjax.bench.peers.base import Candidate, Problem, imported, installed
from hetjax.bench.quantization import ranges_of


class OpenVino:
  """Compiled models with tensors set once, images channels last and first.

  Attributes:
    bits: 32 for float32 (precision hint f32), 8 for QDQ models.
  """

  def __init__(self, bits: int):
    self.bits = bits
    self.name = "OpenVINO " + {32: "float32", 8: "int8"}[bits]

  def version(self) -> str:
    return installed("openvino")

  def candidates(self, problem: Problem) -> list[Candidate]:
    # Without it OpenVINO falls back to a stub that starts no process and sends nothing.
    sys.modules.setdefault("openvino_telemetry", None)
    imported("openvino", "openvino")
    imported("onnx", "onnx")
    images = len(problem.graph.shape) == 4
    return [self._candidate(problem, last) for last in ((True, False) if images else (True,))]

  def _candidate(self, problem: Problem, channels_last: bool) -> Candidate:
    import openvino as ov

    from hetjax.bench import onnx_graph

    graph, x = problem.graph, problem.x
    ranges = ranges_of(graph, x) if self.bits == 8 else None
    codes = ranges is not None and problem.quantized_ends
    core = ov.Core()
    proto = onnx_graph.to_onnx(graph, ranges, channels_last=channels_last, quantized_ends=codes)
    model = core.read_model(proto.SerializeToString(), b"")
    settings = {
      "PERFORMANCE_HINT": "LATENCY",
      "INFERENCE_NUM_THREADS": problem.threads,
      "NUM_STREAMS": 1,
      "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    if codes:
      x = ranges["input"].codes(x)
    if not channels_last:
      x = x.transpose(onnx_graph.TO_NCHW)
    request.set_input_tensor(ov.Tensor(np.ascontiguousarray(x)))

    def result():
      y = np.array(request.get_output_tensor().data)
      if not channels_last and y.ndim == 4:
        y = y.transpose(onnx_graph.TO_NHWC)
      return ranges[graph.output].values(y) if codes else y

    setting = "images channels " + ("last" if channels_last else "first")
    return Candidate(
      setting if len(graph.shape) == 4 else "latency hint",
      lambda: request.infer(share_inputs=True, share_outputs=True),
      result,
      graph.layers,
    )
