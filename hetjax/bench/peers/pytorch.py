"""PyTorch on CPU: float32 by oneDNN, channels last, and int8 by its quantized operators."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hetjax.bench.graph import Graph, Node, flattened_channels_first
from hetjax.bench.peers.base import Candidate, Missing, Problem, imported, installed
from hetjax.bench.quantization import Ranges, quantize_kernel


class PyTorch:
  """Graphs as sequences of PyTorch calls, run eagerly, traced and frozen, or compiled.

  Attributes:
    bits: 32 for float32, 8 for the operators of `torch.ops.quantized` with the x86 engine.
  """

  def __init__(self, bits: int):
    self.bits = bits
    self.name = "PyTorch " + {32: "float32", 8: "int8"}[bits]

  def version(self) -> str:
    return installed("torch")

  def candidates(self, problem: Problem) -> list[Candidate]:
    torch = imported("torch", "torch")
    torch.set_num_threads(problem.threads)
    graph, x = flattened_channels_first(problem.graph), _tensor(torch, problem.x)
    if self.bits == 8:
      return [self._quantized(torch, problem, graph, x)]
    found = [_float_candidate(torch, graph, x, "eager", _eager)]
    for setting, make in (("traced and frozen", _frozen), ("compiled", _compiled)):
      torch._dynamo.reset()  # it counts graphs, and gives up compiling beyond a few
      try:
        found.append(_float_candidate(torch, graph, x, setting, make))
      except (RuntimeError, AttributeError, ImportError):
        continue  # a setting that this release or this machine does not have is no loss
    return found

  def _quantized(self, torch, problem: Problem, graph: Graph, x) -> Candidate:
    if any(n.op in ("attention", "layer_norm") for n in graph.nodes):
      raise Missing("its static int8 operators do not mix with attention in this translation")
    engines = torch.backends.quantized.supported_engines
    torch.backends.quantized.engine = "x86" if "x86" in engines else engines[-1]
    ranges = problem.ranges
    kernels = _quantized_kernels(torch, graph)
    into = lambda x: torch.quantize_per_tensor(
      x, ranges["input"].scale, ranges["input"].zero_point, torch.quint8
    )

    def make():
      call = _quantized_call(torch, graph, ranges, kernels)
      if problem.quantized_ends:
        return call
      return lambda x: call(into(x)).dequantize()

    x = into(x) if problem.quantized_ends else x
    return _candidate(torch, torch.backends.quantized.engine, make, x, graph.layers)


def _float_candidate(torch, graph: Graph, x, setting: str, form: Callable) -> Candidate:
  def make():
    constants = _float_constants(torch, graph)
    with torch.inference_mode():
      return form(torch, lambda x: _run(torch, graph, x, constants), x)

  return _candidate(torch, setting, make, x, graph.layers)


def _candidate(torch, setting: str, make: Callable, x, layers: int) -> Candidate:
  call = make()

  def run():
    with torch.inference_mode():
      return call(x)

  def result():
    y = run()
    y = y.dequantize() if y.is_quantized else y
    return (y.permute(0, 2, 3, 1) if y.ndim == 4 else y).contiguous().numpy()

  again = lambda: _candidate(torch, setting, make, x, layers)
  return Candidate(setting, run, result, layers, again=again)


def _tensor(torch, x: np.ndarray):
  """A tensor; images become NCHW in shape and stay channels last in memory."""
  x = torch.from_numpy(np.array(x))
  return x.permute(0, 3, 1, 2).to(memory_format=torch.channels_last) if x.ndim == 4 else x


def _eager(torch, call: Callable, x):
  return call


def _frozen(torch, call: Callable, x):
  import warnings

  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the tracer is deprecated, and is still the fastest for some
    traced = torch.jit.trace(_module(torch, call), x, check_trace=False)
    frozen = torch.jit.optimize_for_inference(torch.jit.freeze(traced.eval()))
    for _ in range(3):
      frozen(x)
  return frozen


def _compiled(torch, call: Callable, x):
  import torch._inductor.config as inductor

  inductor.freezing = True
  compiled = torch.compile(_module(torch, call))
  compiled(x)
  return compiled


def _module(torch, call: Callable):
  class Module(torch.nn.Module):
    def forward(self, x):
      return call(x)

  return Module().eval()


def _float_constants(torch, graph: Graph) -> list[dict]:
  constants = []
  for node in graph.nodes:
    values = {k: torch.from_numpy(np.array(v)) for k, v in node.constants.items()}
    if node.op == "conv":
      kernel = values["kernel"].permute(3, 2, 0, 1).contiguous()
      values["kernel"] = kernel.to(memory_format=torch.channels_last)
    elif node.op == "dense":
      values["kernel"] = values["kernel"].T.contiguous()
    constants.append(values)
  return constants


def _run(torch, graph: Graph, x, constants: list[dict]):
  tensors = {"input": x}
  for node, values in zip(graph.nodes, constants, strict=True):
    y = _float_op(torch, node, values, *(tensors[name] for name in node.inputs))
    if node.activation == "relu":
      y = torch.relu(y)
    elif node.activation == "relu6":
      y = torch.clamp(y, 0.0, 6.0)
    elif node.activation == "gelu":
      y = torch.nn.functional.gelu(y, approximate="tanh")
    tensors[node.output] = y
  return tensors[graph.output]


def _float_op(torch, node: Node, values: dict, x, *others):
  functional, options = torch.nn.functional, node.options
  if node.op == "conv":
    strides, padding, groups = (options[k] for k in ("strides", "padding", "groups"))
    return functional.conv2d(x, values["kernel"], values["bias"], strides, padding, 1, groups)
  if node.op == "dense":
    return functional.linear(x, values["kernel"], values["bias"])
  if node.op == "add":
    return x + others[0]
  if node.op == "shift":
    return x + values["value"]
  if node.op == "max_pool":
    return functional.max_pool2d(x, options["window"], options["strides"], options["padding"])
  if node.op == "mean":
    return x.mean((2, 3)) if x.ndim == 4 else x.mean(1)
  if node.op == "flatten":
    return x.flatten(1)
  if node.op == "layer_norm":
    scale, bias = values["scale"], values["bias"]
    return functional.layer_norm(x, scale.shape, scale, bias, options["epsilon"])
  if node.op != "attention":
    raise Missing(f"no translation of {node.op} to PyTorch")
  b, t, c = x.shape
  split = lambda z: z.reshape(b, t, options["heads"], -1).transpose(1, 2)
  y = functional.scaled_dot_product_attention(split(x), *map(split, others))
  return y.transpose(1, 2).reshape(b, t, c)


def _quantized_kernels(torch, graph: Graph) -> list:
  """The nodes' kernels as per-channel qint8 tensors, outputs first; None where there is none."""
  found = []
  for node in graph.nodes:
    if node.op not in ("conv", "dense"):
      found.append(None)
      continue
    codes, scale = quantize_kernel(node.constants["kernel"])
    axes = (3, 2, 0, 1) if node.op == "conv" else (1, 0)
    kernel = torch._make_per_channel_quantized_tensor(
      torch.from_numpy(np.ascontiguousarray(codes.transpose(axes))),
      torch.from_numpy(scale).double(),
      torch.zeros(len(scale), dtype=torch.int64),
      0,
    )
    found.append(kernel)
  return found


def _quantized_call(torch, graph: Graph, ranges: Ranges, kernels: list) -> Callable:
  """The graph on quint8 tensors; weights are packed once here."""
  steps = []
  for node, kernel in zip(graph.nodes, kernels, strict=True):
    found = ranges[node.output]
    steps.append((node, _quantized_op(torch, node, kernel, (found.scale, found.zero_point))))

  def call(x):
    tensors = {"input": x}
    for node, step in steps:
      tensors[node.output] = step(*(tensors[name] for name in node.inputs))
    return tensors[graph.output]

  return call


def _quantized_op(torch, node: Node, kernel, steps: tuple[float, int]) -> Callable:
  functional, options, ops = torch.nn.functional, node.options, torch.ops.quantized
  if node.op in ("conv", "dense"):
    bias = torch.from_numpy(np.array(node.constants["bias"]))
    relu = node.activation == "relu"
  if node.op == "conv":
    strides, padding = [options["strides"]] * 2, [options["padding"]] * 2
    packed = ops.conv2d_prepack(kernel, bias, strides, padding, [1, 1], options["groups"])
    conv = ops.conv2d_relu if relu else ops.conv2d
    if node.activation == "relu6":
      # The range ends within 0 .. 6, so saturation at 0 and 255 is ReLU6.
      conv = ops.conv2d
    return lambda x: conv(x, packed, *steps)
  if node.op == "dense":
    packed = ops.linear_prepack(kernel, bias)
    linear = ops.linear_relu if relu else ops.linear
    return lambda x: linear(x, packed, *steps)
  if node.op == "add":
    add = ops.add_relu if node.activation == "relu" else ops.add
    return lambda x, y: add(x, y, *steps)
  if node.op == "max_pool":
    window = (options["window"], options["strides"], options["padding"])
    return lambda x: functional.max_pool2d(x, *window)
  if node.op == "mean":
    return lambda x: functional.adaptive_avg_pool2d(x, 1).flatten(1)
  if node.op == "flatten":
    return lambda x: x.flatten(1)
  raise Missing(f"no translation of {node.op} to PyTorch's int8 operators")
