"""Dense layers with weights alone quantized, the form in which engines keep language models.

Activations stay float32 in the model; engines quantize them on the fly if that is faster.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hetjax.bench.graph import Graph
from hetjax.bench.peers.base import Missing
from hetjax.bench.quantization import pack_int4, quantize_kernel

BLOCK = 128  # input channels that share a scale in ONNX Runtime's operator


def _single_dense(graph: Graph):
  if len(graph.nodes) != 1 or graph.nodes[0].op != "dense" or graph.nodes[0].activation:
    raise Missing("only single dense layers are translated with weights alone quantized")
  kernel = graph.nodes[0].constants["kernel"]
  if kernel.shape[0] % BLOCK or np.any(graph.nodes[0].constants["bias"]):
    raise Missing(f"input channels must be a multiple of {BLOCK}, and the bias zero")
  return kernel


def matmul_nbits(graph: Graph) -> onnx.ModelProto:
  """A dense layer with int4 weights by ONNX Runtime's own operator MatMulNBits.

  Raises:
    Missing: the graph is something else.
  """
  kernel = _single_dense(graph)
  channels, outputs = kernel.shape
  codes, scale = quantize_kernel(kernel, 4)
  blocks = channels // BLOCK
  packed = pack_int4(codes.T + 8).reshape(outputs, blocks, BLOCK // 2)
  scales = np.repeat(scale[:, None], blocks, axis=1).reshape(-1)
  constants = [
    numpy_helper.from_array(packed, "codes"),
    numpy_helper.from_array(scales.astype(np.float32), "scales"),
  ]
  node = helper.make_node(
    "MatMulNBits",
    ["input", "codes", "scales"],
    ["output"],
    domain="com.microsoft",
    K=channels,
    N=outputs,
    bits=4,
    block_size=BLOCK,
    accuracy_level=4,  # may compute in int8
  )
  return _model(graph, [node], constants, 20)


def weights_only(graph: Graph, bits: int) -> onnx.ModelProto:
  """A dense layer with int8 or int4 weights that are dequantized per output channel.

  Raises:
    Missing: the graph is something else.
  """
  kernel = _single_dense(graph)
  codes, scale = quantize_kernel(kernel, bits)
  if bits == 8:
    stored = numpy_helper.from_array(codes, "codes")
  else:
    raw = pack_int4(codes.reshape(1, -1)).tobytes()
    stored = helper.make_tensor("codes", TensorProto.INT4, codes.shape, raw, raw=True)
  constants = [stored, numpy_helper.from_array(scale, "scales")]
  nodes = [
    helper.make_node("DequantizeLinear", ["codes", "scales"], ["kernel"], axis=1),
    helper.make_node("MatMul", ["input", "kernel"], ["output"]),
  ]
  return _model(graph, nodes, constants, 21)  # the first with INT4


def _model(graph: Graph, nodes, constants, opset: int) -> onnx.ModelProto:
  shape = [helper.make_tensor_value_info("input", TensorProto.FLOAT, graph.shape)]
  output = [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)]
  made = helper.make_graph(nodes, "hetjax", shape, output, constants)
  sets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
  return helper.make_model(made, opset_imports=sets, ir_version=10)
