"""ONNX Runtime on CPU, float32 and statically quantized int8."""

from __future__ import annotations

import numpy as np

from hetjax.bench.peers.base import Candidate, Problem, imported, installed
from hetjax.bench.quantization import ranges_of


class OnnxRuntime:
  """Sessions with bound inputs and outputs, images channels last and first.

  Attributes:
    bits: 32 for float32, 8 for QDQ models (uint8 activations, int8 weights per channel).
  """

  def __init__(self, bits: int):
    self.bits = bits
    self.name = "ONNX Runtime " + {32: "float32", 8: "int8"}[bits]

  def version(self) -> str:
    return installed("onnxruntime")

  def candidates(self, problem: Problem) -> list[Candidate]:
    imported("onnxruntime", "onnxruntime")
    imported("onnx", "onnx")
    images = len(problem.graph.shape) == 4
    return [self._candidate(problem, last) for last in ((True, False) if images else (True,))]

  def _candidate(self, problem: Problem, channels_last: bool) -> Candidate:
    import onnxruntime as ort

    from hetjax.bench import onnx_graph

    graph, x = problem.graph, problem.x
    ranges = ranges_of(graph, x) if self.bits == 8 else None
    codes = ranges is not None and problem.quantized_ends
    model = onnx_graph.to_onnx(
      graph, ranges, channels_last=channels_last, quantized_ends=codes
    ).SerializeToString()
    options = ort.SessionOptions()
    options.intra_op_num_threads = problem.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    if codes:
      x = ranges["input"].codes(x)
    if not channels_last:
      x = x.transpose(onnx_graph.TO_NCHW)
    binding = session.io_binding()
    value = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(x))
    binding.bind_ortvalue_input("input", value)
    binding.bind_output("output")

    def result():
      y = binding.copy_outputs_to_cpu()[0]
      if not channels_last and y.ndim == 4:
        y = y.transpose(onnx_graph.TO_NHWC)
      return ranges[graph.output].values(y) if codes else y

    setting = "images channels " + ("last" if channels_last else "first")
    return Candidate(
      setting if len(graph.shape) == 4 else "defaults",
      lambda: session.run_with_iobinding(binding),
      result,
      graph.layers,
    )
