"""Graphs as ONNX models, float32 or quantized (QDQ), for the peers that read ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hetjax.bench.graph import Graph, Node, flattened_channels_first
from hetjax.bench.quantization import Range, Ranges, quantize_kernel, quantized_tensors

OPSET, IR = 20, 10  # the first with Gelu; read by every release that knows that set
MICROSOFT = "com.microsoft"
TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


class _Model:
  """Nodes and initializers under construction."""

  def __init__(self, dynamic: bool):
    self.nodes, self.initializers, self.dynamic, self._count = [], [], dynamic, 0

  def constant(self, value: np.ndarray) -> str:
    name = f"constant{len(self.initializers)}"
    self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name

  def op(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
    self._count += 1
    output = output or f"{op}_{self._count}"
    self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
    return output


def to_onnx(
  graph: Graph,
  ranges: Ranges | None = None,
  *,
  channels_last: bool = True,
  quantized_ends: bool = False,
  dynamic: bool = False,
) -> onnx.ModelProto:
  """The graph as an ONNX model with input "input" and output "output".

  Args:
    graph: The layers.
    ranges: Of every tensor: quantizes the model; None leaves it in float32.
    channels_last: Whether images at input and output are NHWC, behind a transposition that
      runtimes with such kernels remove; otherwise NCHW, ONNX's own layout.
    quantized_ends: Whether input and output are uint8 codes instead of float32.
    dynamic: Whether dense layers are ONNX Runtime's own operator with int8 weights, which quantizes
      activations by their range at hand; the rest stays in float32.
  """
  graph, model = flattened_channels_first(graph), _Model(dynamic)
  kept = set(quantized_tensors(graph)) if ranges else set()
  ends = {"input", graph.output} if quantized_ends else set()

  def boundary(name: str, x: str, *, output: bool) -> str:
    """Quantizes and dequantizes a tensor where it is kept as uint8."""
    if not ranges or name not in kept | ends:
      return x
    scale = model.constant(np.float32(ranges[name].scale))
    zero = model.constant(np.uint8(ranges[name].zero_point))
    if not (name == "input" and quantized_ends):
      x = model.op("QuantizeLinear", x, scale, zero)
    if output and quantized_ends:
      return x
    return model.op("DequantizeLinear", x, scale, zero)

  image = len(graph.shape) == 4
  x = "input"
  if image and channels_last:
    x = model.op("Transpose", x, perm=TO_NCHW)
  tensors = {"input": boundary("input", x, output=False)}
  ranks = {"input": len(graph.shape)}
  for node in graph.nodes:
    inputs = [tensors[name] for name in node.inputs]
    y = _OPS[node.op](model, node, inputs, ranges)
    if not (ranges and node.output in kept | ends and _saturates(node, ranges[node.output])):
      y = _activate(model, y, node.activation)
    tensors[node.output] = boundary(node.output, y, output=node.output == graph.output)
    ranks[node.output] = 2 if node.op in ("mean", "flatten") else ranks[node.inputs[0]]
  last = tensors[graph.output]
  if ranks[graph.output] == 4 and channels_last:
    model.op("Transpose", last, perm=TO_NHWC, output="output")
  else:
    model.op("Identity", last, output="output")
  shape = graph.shape
  if image and not channels_last:
    shape = tuple(shape[i] for i in TO_NCHW)
  kind = TensorProto.UINT8 if quantized_ends else TensorProto.FLOAT
  made = helper.make_graph(
    model.nodes,
    "hetjax",
    [helper.make_tensor_value_info("input", kind, shape)],
    [helper.make_tensor_value_info("output", kind, None)],
    model.initializers,
  )
  sets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
  return helper.make_model(made, opset_imports=sets if dynamic else sets[:1], ir_version=IR)


def _saturates(node: Node, found: Range) -> bool:
  """Whether the codes' own ends, 0 and 255, are the activation, which then needs no operator."""
  if found.zero_point != 0:
    return False
  return node.activation == "relu" or (node.activation == "relu6" and 255 * found.scale < 6.001)


def _activate(model: _Model, x: str, activation: str | None) -> str:
  if activation == "relu":
    return model.op("Relu", x)
  if activation == "relu6":
    return model.op("Clip", x, model.constant(np.float32(0)), model.constant(np.float32(6)))
  return model.op("Gelu", x, approximate="tanh") if activation == "gelu" else x


def _kernel(model: _Model, node: Node, ranges: Ranges | None, axes) -> str:
  """The kernel with its axes permuted, dequantized from int8 in a quantized model."""
  kernel = node.constants["kernel"]
  if not ranges:
    return model.constant(kernel.transpose(axes))
  codes, scale = quantize_kernel(kernel)
  zeros = model.constant(np.zeros(len(scale), np.int8))
  codes, axis = model.constant(codes.transpose(axes)), axes.index(kernel.ndim - 1)
  return model.op("DequantizeLinear", codes, model.constant(scale), zeros, axis=axis)


def _bias(model: _Model, node: Node, ranges: Ranges | None) -> str:
  """The bias, dequantized from int32 accumulator steps in a quantized model."""
  bias = node.constants["bias"]
  if not ranges:
    return model.constant(bias)
  _, scale = quantize_kernel(node.constants["kernel"])
  scale = (scale * np.float32(ranges[node.inputs[0]].scale)).astype(np.float32)
  codes = np.clip(np.round(bias / scale), -(2.0**31), 2.0**31 - 129).astype(np.int32)
  zeros = model.constant(np.zeros(len(scale), np.int32))
  return model.op("DequantizeLinear", model.constant(codes), model.constant(scale), zeros, axis=0)


def _conv(model: _Model, node: Node, inputs, ranges) -> str:
  kernel, bias = _kernel(model, node, ranges, (3, 2, 0, 1)), _bias(model, node, ranges)
  strides, padding = node.options["strides"], node.options["padding"]
  window = {"strides": [strides] * 2, "pads": [padding] * 4, "group": node.options["groups"]}
  return model.op("Conv", *inputs, kernel, bias, **window)


def _dense(model: _Model, node: Node, inputs, ranges) -> str:
  if model.dynamic:
    codes, scale = quantize_kernel(node.constants["kernel"])
    zeros = np.zeros(len(scale), np.int8)
    parts = [model.constant(v) for v in (codes, scale, zeros, node.constants["bias"])]
    return model.op("DynamicQuantizeMatMul", *inputs, *parts, domain=MICROSOFT)
  # MatMul and Add serve any rank; a bias that stays float costs one addition an output.
  y = model.op("MatMul", *inputs, _kernel(model, node, ranges, (0, 1)))
  bias = node.constants["bias"]
  return model.op("Add", y, model.constant(bias)) if np.any(bias) else y


def _max_pool(model: _Model, node: Node, inputs, ranges) -> str:
  window, strides, padding = (node.options[k] for k in ("window", "strides", "padding"))
  sizes = {"kernel_shape": [window] * 2, "strides": [strides] * 2, "pads": [padding] * 4}
  return model.op("MaxPool", *inputs, **sizes)


def _mean(model: _Model, node: Node, inputs, ranges) -> str:
  if node.options["images"]:
    return model.op("Flatten", model.op("GlobalAveragePool", *inputs), axis=1)
  axes = model.constant(np.array([1], np.int64))
  return model.op("ReduceMean", *inputs, axes, keepdims=0)


def _layer_norm(model: _Model, node: Node, inputs, ranges) -> str:
  parts = [model.constant(node.constants[k]) for k in ("scale", "bias")]
  return model.op("LayerNormalization", *inputs, *parts, epsilon=node.options["epsilon"])


def _attention(model: _Model, node: Node, inputs, ranges) -> str:
  heads = node.options["heads"]
  split = model.constant(np.array([0, 0, heads, -1], np.int64))
  join = model.constant(np.array([0, 0, -1], np.int64))
  query, key, value = (model.op("Reshape", x, split) for x in inputs)
  query = model.op("Transpose", query, perm=(0, 2, 1, 3))
  key = model.op("Transpose", key, perm=(0, 2, 3, 1))
  value = model.op("Transpose", value, perm=(0, 2, 1, 3))
  scores = model.op("MatMul", query, key)
  scale = model.constant(np.float32(1 / np.sqrt(node.options["channels"] / heads)))
  weights = model.op("Softmax", model.op("Mul", scores, scale), axis=-1)
  mixed = model.op("Transpose", model.op("MatMul", weights, value), perm=(0, 2, 1, 3))
  return model.op("Reshape", mixed, join)


_OPS = {
  "conv": _conv,
  "dense": _dense,
  "add": lambda model, node, inputs, ranges: model.op("Add", *inputs),
  "max_pool": _max_pool,
  "mean": _mean,
  "flatten": lambda model, node, inputs, ranges: model.op("Flatten", *inputs, axis=1),
  "layer_norm": _layer_norm,
  "attention": _attention,
  "shift": lambda model, node, inputs, ranges: model.op(
    "Add", *inputs, model.constant(node.constants["value"])
  ),
}


def setting(graph: Graph, channels_last: bool) -> str:
  """The memory layout of a model's ends in words."""
  if len(graph.shape) != 4:
    return "defaults"
  return "images channels " + ("last" if channels_last else "first")


def encoded(x: np.ndarray, ends: Ranges | None, channels_last: bool) -> np.ndarray:
  """A graph's input as the model of `to_onnx` takes it; `ends` are ranges if its ends are uint8."""
  x = ends["input"].codes(x) if ends else x
  return np.ascontiguousarray(x if channels_last or x.ndim != 4 else x.transpose(TO_NCHW))


def decoded(y: np.ndarray, graph: Graph, ends: Ranges | None, channels_last: bool) -> np.ndarray:
  """The graph's float32 output, channels last, from the model's."""
  y = y if channels_last or y.ndim != 4 else y.transpose(TO_NHWC)
  return ends[graph.output].values(y) if ends else y
