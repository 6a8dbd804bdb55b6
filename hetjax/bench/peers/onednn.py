"""oneDNN itself, where the system has its library: convolutions, direct and by Winograd's way.

Winograd's algorithm computes 3x3 convolutions with fewer products. Engines that contain oneDNN do
not ask for it. The library is reached through the C interface of version 2, whose structures are
only handed on.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import functools
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from hetjax.bench.graph import Graph, Node
from hetjax.bench.peers.base import Candidate, Missing, Problem

# Values of dnnl_types.h, which version 2 keeps.
_CPU, _F32, _ANY, _INFERENCE, _RELU = 1, 3, 1, 96, 31
_ALGORITHMS = {"direct": 1, "Winograd": 2}
_SOURCE_MD, _WEIGHTS_MD, _RESULT_MD, _IMPLEMENTATION = 129, 131, 133, 8
_SOURCE, _RESULT, _WEIGHTS, _BIAS = 1, 17, 33, 41
_UNIMPLEMENTED = 3
# More than version 2.6 has in a dnnl_memory_desc_t and in a dnnl_convolution_desc_t.
_MD_BYTES, _CONVOLUTION_BYTES = 2048, 16384


class _Argument(ctypes.Structure):
  _fields_ = (("index", ctypes.c_int), ("memory", ctypes.c_void_p))


class _Version(ctypes.Structure):
  _fields_ = tuple((name, ctypes.c_int) for name in ("major", "minor", "patch"))


class OneDnn:
  """Chains of convolutions with ReLU, tensors in the layouts that oneDNN prefers.

  Threads are those of the process: oneDNN has no call for their number.

  Attributes:
    algorithm: "direct" or "Winograd".
  """

  bits = 32

  def __init__(self, algorithm: str):
    self.algorithm = algorithm
    self.name = "oneDNN " + ("float32" if algorithm == "direct" else algorithm)

  def version(self) -> str:
    return _version(_library())

  def candidates(self, problem: Problem) -> list[Candidate]:
    tensor = "input"
    for node in problem.graph.nodes:
      if node.op != "conv" or node.activation not in (None, "relu") or node.inputs != (tensor,):
        raise Missing("only chains of convolutions, with ReLU or without, are translated to oneDNN")
      tensor = node.output
    return [self._candidate(problem)]

  def _candidate(self, problem: Problem) -> Candidate:
    chain = _Chain(problem.graph, problem.x, self.algorithm)
    again = lambda: self._candidate(problem)
    return Candidate(chain.setting, chain.run, chain.result, problem.graph.layers, again=again)


@functools.cache
def _library() -> ctypes.CDLL:
  library, name = None, "libdnnl.so.2"
  try:
    library = ctypes.CDLL(name)
  except OSError as error:
    name = ctypes.util.find_library("dnnl")  # perhaps another version, to be named
    if name is None:
      raise Missing("the system has no library dnnl (on Debian: package libdnnl2)") from error
  try:
    library = library or ctypes.CDLL(name)
  except OSError as error:
    raise Missing(f"{name} fails to load: {error}") from error
  library.dnnl_version.restype = ctypes.POINTER(_Version)
  library.dnnl_primitive_desc_query_md.restype = ctypes.c_void_p
  library.dnnl_memory_desc_get_size.restype = ctypes.c_size_t
  if not _version(library).startswith("2."):
    raise Missing(f"version {_version(library)} of {name} has another interface than version 2")
  return library


def _version(library: ctypes.CDLL) -> str:
  v = library.dnnl_version().contents
  return f"{v.major}.{v.minor}.{v.patch}"


def _call(name: str, *arguments: Any) -> None:
  """Calls a function of the library.

  Raises:
    Missing: it has no implementation, or fails.
  """
  status = getattr(_library(), name)(*arguments)
  if status == _UNIMPLEMENTED:
    raise Missing("oneDNN has no implementation for this layer on this processor")
  if status != 0:
    raise Missing(f"{name} fails with status {status}")


def _int64s(values: Sequence[int]) -> ctypes.Array:
  return (ctypes.c_int64 * len(values))(*values)


class _Chain:
  """Convolutions made ready, each reading what the one before it wrote."""

  def __init__(self, graph: Graph, x: np.ndarray, algorithm: str):
    self._owned: list[Callable[[], None]] = []  # what to call in the end, in reverse
    self._kept: list[np.ndarray] = []  # memory that oneDNN reads and writes
    weakref.finalize(self, _destroy, self._owned)
    self._engine = self._create("dnnl_engine", _CPU, ctypes.c_size_t(0))
    self._stream = self._create("dnnl_stream", self._engine, 1)
    self._steps: list[tuple[ctypes.c_void_p, ctypes.Array]] = []
    image, shape, names = self._array(x.transpose(0, 3, 1, 2)), x.shape, []
    memory, md = image
    for i, node in enumerate(graph.nodes):
      shape, pd, name = self._convolution(node, shape, algorithm)
      names.append(name)
      wanted = self._query(pd, _SOURCE_MD)
      if i > 0 and not _library().dnnl_memory_desc_equal(md, wanted):
        raise Missing("its layers do not agree on a layout")
      if i == 0:
        memory = self._reordered(memory, md, wanted)
      weights = self._reordered(*self._array(_kernel(node)), self._query(pd, _WEIGHTS_MD))
      bias, _ = self._array(node.constants["bias"])
      md = self._query(pd, _RESULT_MD)
      result = self._memory(md)
      primitive = self._create("dnnl_primitive", pd)
      given = {_SOURCE: memory, _WEIGHTS: weights, _BIAS: bias, _RESULT: result}
      self._steps.append((primitive, _arguments(given)))
      memory = result
    self._last, self._shape = (memory, md), shape
    self.setting = ", ".join(dict.fromkeys(names))

  def run(self) -> None:
    """Runs the layers and waits for them."""
    for primitive, arguments in self._steps:
      _call("dnnl_primitive_execute", primitive, self._stream, len(arguments), arguments)
    _call("dnnl_stream_wait", self._stream)

  def result(self) -> np.ndarray:
    """The last layer's output, channels last."""
    y = np.empty(self._shape, np.float32)
    memory, md = self._array(y.transpose(0, 3, 1, 2))
    self._reorder(*self._last, memory, md)
    return y

  def _create(self, kind: str, *arguments: Any) -> ctypes.c_void_p:
    made = ctypes.c_void_p()
    _call(f"{kind}_create", ctypes.byref(made), *arguments)
    self._owned.append(functools.partial(getattr(_library(), f"{kind}_destroy"), made))
    return made

  def _convolution(self, node: Node, shape, algorithm: str):
    """Shape of the result, primitive descriptor and name of the implementation."""
    kernel, options = node.constants["kernel"], node.options
    stride, pad = options["strides"], options["padding"]
    b, h, w, _ = shape
    out = lambda size, k: (size + 2 * pad - k) // stride + 1
    result = (b, out(h, kernel.shape[0]), out(w, kernel.shape[1]), kernel.shape[3])
    images = lambda s: _any_layout((s[0], s[3], s[1], s[2]))
    convolution = ctypes.create_string_buffer(_CONVOLUTION_BYTES)
    _call(
      "dnnl_convolution_forward_desc_init", convolution, _INFERENCE, _ALGORITHMS[algorithm],
      images(shape), _any_layout(_kernel(node).shape), _any_layout((kernel.shape[3],)),
      images(result),
      _int64s((stride, stride)), _int64s((pad, pad)), _int64s((pad, pad)),
    )  # fmt: skip
    attributes = self._create("dnnl_primitive_attr")
    if node.activation == "relu":
      after = self._create("dnnl_post_ops")
      one, zero = ctypes.c_float(1), ctypes.c_float(0)
      _call("dnnl_post_ops_append_eltwise", after, one, _RELU, zero, zero)
      _call("dnnl_primitive_attr_set_post_ops", attributes, after)
    pd = self._create("dnnl_primitive_desc", convolution, attributes, self._engine, None)
    name = ctypes.c_char_p()
    _call("dnnl_primitive_desc_query", pd, _IMPLEMENTATION, 0, ctypes.byref(name))
    return result, pd, (name.value or b"").decode()

  def _query(self, pd: ctypes.c_void_p, what: int) -> ctypes.c_void_p:
    return ctypes.c_void_p(_library().dnnl_primitive_desc_query_md(pd, what, 0))

  def _array(self, array: np.ndarray) -> tuple[ctypes.c_void_p, ctypes.Array]:
    """Memory that an array has, in its strides."""
    array = np.asarray(array, np.float32)
    md = ctypes.create_string_buffer(_MD_BYTES)
    strides = _int64s([s // 4 for s in array.strides])
    _call(
      "dnnl_memory_desc_init_by_strides", md, array.ndim, _int64s(array.shape), _F32, strides
    )  # fmt: skip
    self._kept.append(array)
    return self._create("dnnl_memory", md, self._engine, ctypes.c_void_p(array.ctypes.data)), md

  def _memory(self, md: ctypes.c_void_p) -> ctypes.c_void_p:
    """Memory in a layout of oneDNN's, filled once so that it is there."""
    size = _library().dnnl_memory_desc_get_size(md)
    data = np.zeros(size + 64, np.uint8)
    start = data.ctypes.data + -data.ctypes.data % 64
    self._kept.append(data)
    return self._create("dnnl_memory", md, self._engine, ctypes.c_void_p(start))

  def _reordered(self, memory, md, wanted) -> ctypes.c_void_p:
    made = self._memory(wanted)
    self._reorder(memory, md, made, wanted)
    return made

  def _reorder(self, memory, md, to, to_md) -> None:
    pd = ctypes.c_void_p()
    _call(
      "dnnl_reorder_primitive_desc_create", ctypes.byref(pd), md, self._engine, to_md,
      self._engine, None,
    )  # fmt: skip
    self._owned.append(functools.partial(_library().dnnl_primitive_desc_destroy, pd))
    primitive = self._create("dnnl_primitive", pd)
    arguments = _arguments({_SOURCE: memory, _RESULT: to})
    _call("dnnl_primitive_execute", primitive, self._stream, len(arguments), arguments)
    _call("dnnl_stream_wait", self._stream)


def _any_layout(dims: Sequence[int]) -> ctypes.Array:
  """Descriptor of a tensor whose layout oneDNN may choose."""
  md = ctypes.create_string_buffer(_MD_BYTES)
  _call("dnnl_memory_desc_init_by_tag", md, len(dims), _int64s(dims), _F32, _ANY)
  return md


def _kernel(node: Node) -> np.ndarray:
  """A kernel [kh,kw,c,n] as [n,c,kh,kw], or [groups,n,c,kh,kw], in the same memory."""
  kernel, groups = node.constants["kernel"], node.options["groups"]
  kh, kw, c, n = kernel.shape
  if groups == 1:
    return kernel.transpose(3, 2, 0, 1)
  return kernel.reshape(kh, kw, c, groups, n // groups).transpose(3, 4, 2, 0, 1)


def _arguments(given: dict[int, ctypes.c_void_p]) -> ctypes.Array:
  return (_Argument * len(given))(*[_Argument(k, v.value) for k, v in given.items()])


def _destroy(owned: list[Callable[[], None]]) -> None:
  while owned:
    owned.pop()()
