"""ONNX Runtime on CPU: float32, statically quantized int8, and int4 dense layers."""

from __future__ import annotations

from hetjax.bench.peers.base import Candidate, Problem, imported, installed
from hetjax.bench.quantization import Ranges


class OnnxRuntime:
  """Sessions with bound inputs and outputs, images channels last and first.

  Attributes:
    bits: 32 for float32; 8 for QDQ models (uint8 activations, int8 weights per channel) and, where
      there are no convolutions, activations quantized on the fly; 4 for dense layers by
      MatMulNBits.
  """

  def __init__(self, bits: int):
    self.bits = bits
    self.name = "ONNX Runtime " + {32: "float32", 8: "int8", 4: "int4"}[bits]

  def version(self) -> str:
    return installed("onnxruntime")

  def candidates(self, problem: Problem) -> list[Candidate]:
    imported("onnxruntime", "onnxruntime")
    imported("onnx", "onnx")
    from hetjax.bench import onnx_graph
    from hetjax.bench.peers import onnx_dense

    graph = problem.graph
    if self.bits == 4:
      model = onnx_dense.matmul_nbits(graph).SerializeToString()
      return [_candidate(problem, "MatMulNBits", model)]
    ranges = problem.ranges if self.bits == 8 else None
    ends = ranges if problem.quantized_ends else None
    found = []
    for last in (True, False) if len(graph.shape) == 4 else (True,):
      model = onnx_graph.to_onnx(graph, ranges, channels_last=last, quantized_ends=ends is not None)
      setting = onnx_graph.setting(graph, last)
      found.append(_candidate(problem, setting, model.SerializeToString(), ends, last))
    if self.bits == 8 and ends is None and not any(node.op == "conv" for node in graph.nodes):
      model = onnx_graph.to_onnx(graph, dynamic=True).SerializeToString()
      found.append(_candidate(problem, "dynamic", model))
    return found


def _candidate(
  problem: Problem,
  setting: str,
  model: bytes,
  ends: Ranges | None = None,
  channels_last: bool = True,
) -> Candidate:
  import onnxruntime as ort

  from hetjax.bench import onnx_graph

  options = ort.SessionOptions()
  options.intra_op_num_threads = problem.threads
  options.inter_op_num_threads = 1
  options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
  options.log_severity_level = 3
  providers = ["CPUExecutionProvider"]
  session = ort.InferenceSession(model, options, providers=providers)
  binding = session.io_binding()
  x = onnx_graph.encoded(problem.x, ends, channels_last)
  binding.bind_ortvalue_input("input", ort.OrtValue.ortvalue_from_numpy(x))
  binding.bind_output("output")

  def result():
    y = binding.copy_outputs_to_cpu()[0]
    return onnx_graph.decoded(y, problem.graph, ends, channels_last)

  run = lambda: session.run_with_iobinding(binding)
  again = lambda: _candidate(problem, setting, model, ends, channels_last)
  return Candidate(setting, run, result, problem.graph.layers, again=again)
