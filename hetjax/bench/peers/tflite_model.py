"""Graphs as TensorFlow Lite models, by the flatbuffer schema that comes with LiteRT."""

from __future__ import annotations

import math

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from hetjax.bench.graph import Graph, Node
from hetjax.bench.peers.base import Missing
from hetjax.bench.quantization import Range, Ranges, pack_int4, quantize_kernel

_TYPES = {
  np.dtype(np.float32): schema.TensorType.FLOAT32,
  np.dtype(np.int8): schema.TensorType.INT8,
  np.dtype(np.int32): schema.TensorType.INT32,
}
# The first versions of the operators that take int8 (int4 weights for dense layers).
_VERSIONS = {
  "ADD": 2,
  "CONV_2D": 3,
  "DEPTHWISE_CONV_2D": 3,
  "DEQUANTIZE": 2,
  "FULLY_CONNECTED": 12,
  "MAX_POOL_2D": 2,
  "MEAN": 2,
  "PAD": 2,
  "QUANTIZE": 1,
  "RESHAPE": 1,
}
_ACTIVATIONS = {None: "NONE", "relu": "RELU", "relu6": "RELU6"}


def signed_range(found: Range) -> tuple[float, int]:
  """Scale and zero point of the same steps as int8, which is what TensorFlow Lite has."""
  return found.scale, found.zero_point - 128


def _quantization(scales, zeros, axis: int = 0):
  return schema.QuantizationParametersT(
    scale=np.asarray(scales, np.float32).reshape(-1),
    zeroPoint=np.asarray(zeros, np.int64).reshape(-1),
    quantizedDimension=axis,
  )


class _Model:
  """Tensors, buffers and operators under construction."""

  def __init__(self):
    self.tensors, self.operators = [], []
    self.buffers = [schema.BufferT()]  # the first is empty by convention
    self.codes: dict[str, int] = {}

  def tensor(self, shape, kind, quantization=None, data: np.ndarray | None = None) -> int:
    buffer = 0
    if data is not None:
      buffer = len(self.buffers)
      raw = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
      self.buffers.append(schema.BufferT(data=raw))
    name = f"t{len(self.tensors)}"
    self.tensors.append(
      schema.TensorT(
        shape=list(shape), type=kind, buffer=buffer, name=name, quantization=quantization
      )
    )
    return len(self.tensors) - 1

  def constant(self, value: np.ndarray, quantization=None) -> int:
    return self.tensor(value.shape, _TYPES[value.dtype], quantization, value)

  def operator(self, name: str, inputs, output: int, options=None, kind: str = "NONE") -> None:
    index = self.codes.setdefault(name, len(self.codes))
    self.operators.append(
      schema.OperatorT(
        opcodeIndex=index,
        inputs=list(inputs),
        outputs=[output],
        builtinOptionsType=getattr(schema.BuiltinOptions, kind),
        builtinOptions=options,
      )
    )

  def bytes(self, source: int, target: int) -> bytes:
    graph = schema.SubGraphT(
      tensors=self.tensors, inputs=[source], outputs=[target], operators=self.operators
    )
    codes = []
    for name in self.codes:
      code = getattr(schema.BuiltinOperator, name)
      old = min(code, schema.BuiltinOperator.PLACEHOLDER_FOR_GREATER_OP_CODES)
      codes.append(
        schema.OperatorCodeT(deprecatedBuiltinCode=old, builtinCode=code, version=_VERSIONS[name])
      )
    model = schema.ModelT(
      version=3, operatorCodes=codes, subgraphs=[graph], buffers=self.buffers, description="hetjax"
    )
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _Translation:
  """One graph on its way; holds how its tensors are quantized."""

  def __init__(self, graph: Graph, bits: int, ranges: Ranges | None):
    self.graph, self.bits, self.ranges, self.model = graph, bits, ranges, _Model()
    self.shapes: dict[str, tuple[int, ...]] = {"input": tuple(graph.shape)}

  def activation(self, name: str, shape) -> int:
    """A tensor that the graph computes: int8 in a static model, float32 otherwise."""
    if self.ranges is None:
      return self.model.tensor(shape, schema.TensorType.FLOAT32)
    steps = _quantization(*signed_range(self.ranges[name]))
    return self.model.tensor(shape, schema.TensorType.INT8, steps)

  def kernel(self, node: Node, axes, shape=None) -> int:
    kernel = node.constants["kernel"]
    if self.bits == 32:
      value = kernel.transpose(axes).reshape(shape or [kernel.shape[a] for a in axes])
      return self.model.constant(np.ascontiguousarray(value))
    codes, scale = quantize_kernel(kernel, self.bits)
    value = codes.transpose(axes).reshape(shape or [kernel.shape[a] for a in axes])
    axis = value.ndim - 1 if axes[-1] == kernel.ndim - 1 else 0
    steps = _quantization(scale, np.zeros(len(scale)), axis)
    if self.bits == 4:
      return self.model.tensor(
        value.shape, schema.TensorType.INT4, steps, pack_int4(value.reshape(-1))
      )
    return self.model.constant(np.ascontiguousarray(value), steps)

  def bias(self, node: Node) -> int:
    bias = node.constants["bias"]
    if self.ranges is None:
      return self.model.constant(bias)
    _, scale = quantize_kernel(node.constants["kernel"])
    scale = scale * np.float32(self.ranges[node.inputs[0]].scale)
    return self.model.constant(
      np.round(bias / scale).astype(np.int32), _quantization(scale, np.zeros(len(scale)))
    )

  def padded(self, node: Node, x: int, window: int) -> tuple[int, int]:
    """The input and the kind of padding: a padding of its own where "SAME" would be another."""
    padding, strides = node.options["padding"], node.options["strides"]
    if padding == 0:
      return x, schema.Padding.VALID
    b, h, w, c = self.shapes[node.inputs[0]]
    if strides == 1 and 2 * padding == window - 1:
      return x, schema.Padding.SAME
    pads = np.array([[0, 0], [padding] * 2, [padding] * 2, [0, 0]], np.int32)
    shape = (b, h + 2 * padding, w + 2 * padding, c)
    out = self.activation(node.inputs[0], shape)
    self.model.operator(
      "PAD", [x, self.model.constant(pads)], out, schema.PadOptionsT(), "PadOptions"
    )
    return out, schema.Padding.VALID


def _window_shape(node: Node, shape, window: int, outputs: int):
  b, h, w, _ = shape
  padding, strides = node.options["padding"], node.options["strides"]
  size = lambda n: (n + 2 * padding - window) // strides + 1
  return b, size(h), size(w), outputs


def _activation_code(node: Node) -> int:
  if node.activation not in _ACTIVATIONS:
    raise Missing(f"TensorFlow Lite cannot fuse {node.activation}")
  return getattr(schema.ActivationFunctionType, _ACTIVATIONS[node.activation])


def _conv(t: _Translation, node: Node, x: int) -> int:
  kh, _, per_group, outputs = node.constants["kernel"].shape
  groups, strides = node.options["groups"], node.options["strides"]
  shape = t.shapes[node.inputs[0]]
  x, padding = t.padded(node, x, kh)
  common = {
    "padding": padding,
    "strideW": strides,
    "strideH": strides,
    "fusedActivationFunction": _activation_code(node),
  }
  if groups > 1:
    if per_group != 1:
      raise Missing("TensorFlow Lite's grouped convolutions are not translated")
    name, kind = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions"
    options = schema.DepthwiseConv2DOptionsT(depthMultiplier=outputs // groups, **common)
    kernel = t.kernel(node, (2, 0, 1, 3))
  else:
    name, kind = "CONV_2D", "Conv2DOptions"
    options = schema.Conv2DOptionsT(**common)
    kernel = t.kernel(node, (3, 0, 1, 2))
  t.shapes[node.output] = _window_shape(node, shape, kh, outputs)
  out = t.activation(node.output, t.shapes[node.output])
  t.model.operator(name, [x, kernel, t.bias(node)], out, options, kind)
  return out


def _dense(t: _Translation, node: Node, x: int) -> int:
  shape = (*t.shapes[node.inputs[0]][:-1], node.constants["kernel"].shape[1])
  t.shapes[node.output] = shape
  out = t.activation(node.output, shape)
  options = schema.FullyConnectedOptionsT(
    fusedActivationFunction=_activation_code(node), keepNumDims=len(shape) > 2
  )
  inputs = [x, t.kernel(node, (1, 0)), t.bias(node)]
  t.model.operator("FULLY_CONNECTED", inputs, out, options, "FullyConnectedOptions")
  return out


def _add(t: _Translation, node: Node, x: int, y: int) -> int:
  t.shapes[node.output] = t.shapes[node.inputs[0]]
  out = t.activation(node.output, t.shapes[node.output])
  options = schema.AddOptionsT(fusedActivationFunction=_activation_code(node))
  t.model.operator("ADD", [x, y], out, options, "AddOptions")
  return out


def _max_pool(t: _Translation, node: Node, x: int) -> int:
  window, strides = node.options["window"], node.options["strides"]
  made_by = next(n for n in t.graph.nodes if n.output == node.inputs[0])
  if node.options["padding"] and made_by.activation not in ("relu", "relu6"):
    raise Missing("padding with zeros before a maximum is right after ReLU only")
  shape = t.shapes[node.inputs[0]]
  x, padding = t.padded(node, x, window)
  t.shapes[node.output] = _window_shape(node, shape, window, shape[3])
  # Maxima keep their input's steps, as the operator demands.
  t_range = t.ranges and t.ranges[node.inputs[0]]
  if t_range:
    t.ranges[node.output] = t_range
  out = t.activation(node.output, t.shapes[node.output])
  options = schema.Pool2DOptionsT(
    padding=padding, strideW=strides, strideH=strides, filterWidth=window, filterHeight=window
  )
  t.model.operator("MAX_POOL_2D", [x], out, options, "Pool2DOptions")
  return out


def _mean(t: _Translation, node: Node, x: int) -> int:
  b, _, _, c = t.shapes[node.inputs[0]]
  t.shapes[node.output] = (b, c)
  out = t.activation(node.output, (b, c))
  axes = t.model.constant(np.array([1, 2], np.int32))
  t.model.operator("MEAN", [x, axes], out, schema.ReducerOptionsT(keepDims=False), "ReducerOptions")
  return out


def _flatten(t: _Translation, node: Node, x: int) -> int:
  shape = t.shapes[node.output] = (t.shapes[node.inputs[0]][0], math.prod(node.options["sizes"]))
  out = t.activation(node.output, shape)
  sizes = t.model.constant(np.array(shape, np.int32))
  options = schema.ReshapeOptionsT(newShape=list(shape))
  t.model.operator("RESHAPE", [x, sizes], out, options, "ReshapeOptions")
  return out


_OPS = {
  "conv": _conv,
  "dense": _dense,
  "add": _add,
  "max_pool": _max_pool,
  "mean": _mean,
  "flatten": _flatten,
}


def to_tflite(
  graph: Graph, bits: int, ranges: Ranges | None = None, *, quantized_ends: bool = False
) -> bytes:
  """The graph as a TensorFlow Lite model.

  Args:
    graph: The layers.
    bits: Of the weights: 32, 8 or 4.
    ranges: Of every tensor, for a model that computes in int8 throughout; None leaves activations
      in float32, which with 8 or 4 bits XNNPACK quantizes on the fly.
    quantized_ends: Whether input and output are int8 codes; only with `ranges`.

  Raises:
    Missing: a layer that this translation does not have.
  """
  absent = sorted({node.op for node in graph.nodes} - set(_OPS))
  if absent:
    raise Missing(f"no translation of {', '.join(absent)} to TensorFlow Lite")
  t = _Translation(graph, bits, dict(ranges) if ranges else None)
  ends = t.ranges is not None and not quantized_ends
  float32 = schema.TensorType.FLOAT32
  x = t.activation("input", graph.shape)
  source = x
  if ends:
    source = t.model.tensor(graph.shape, float32)
    t.model.operator("QUANTIZE", [source], x, schema.QuantizeOptionsT(), "QuantizeOptions")
  tensors = {"input": x}
  for node in graph.nodes:
    tensors[node.output] = _OPS[node.op](t, node, *(tensors[name] for name in node.inputs))
  target = tensors[graph.output]
  if ends:
    y = t.model.tensor(t.shapes[graph.output], float32)
    t.model.operator("DEQUANTIZE", [target], y, schema.DequantizeOptionsT(), "DequantizeOptions")
    target = y
  return t.model.bytes(source, target)
