"""The engine's C interface through ctypes: no JAX, no XLA in between."""

from __future__ import annotations

import ctypes

import numpy as np

from hetjax.pack import ChannelLayout
from hetjax.xla_cpu import library
from hetjax.xla_cpu.call import storage_bytes
from tests.xla_cpu.cases import Case

_Sizes2 = ctypes.c_int64 * 2
_Sizes4 = ctypes.c_int64 * 4


class Layer(ctypes.Structure):
  _fields_ = [
    ("bits", ctypes.c_void_p),
    ("channels", ctypes.c_int64),
    ("levels", ctypes.c_void_p),
    ("num_levels", ctypes.c_int64),
    ("groups", ctypes.c_int64),
    ("kernel_height", ctypes.c_int64),
    ("kernel_width", ctypes.c_int64),
    ("outputs", ctypes.c_int64),
  ]

  @classmethod
  def of(cls, layout: ChannelLayout, kernel_shape=(1, 1, 0, 1)) -> Layer:
    levels = np.asarray(layout.palette.levels, np.int32)
    kh, kw, _, n = kernel_shape
    layer = cls(
      layout.bits_array.ctypes.data, layout.channels, levels.ctypes.data, levels.size,
      layout.groups, kh, kw, n,
    )  # fmt: skip
    layer.keep = (layout, levels)
    return layer


class Geometry(ctypes.Structure):
  _fields_ = [
    ("batch", ctypes.c_int64),
    ("height", ctypes.c_int64),
    ("width", ctypes.c_int64),
    ("strides", _Sizes2),
    ("padding", _Sizes4),
    ("kernel_dilation", _Sizes2),
  ]


def _data(x: np.ndarray | None):
  return None if x is None else ctypes.c_void_p(x.ctypes.data)


def _size(n: int) -> ctypes.c_int64:
  return ctypes.c_int64(n)


def relayout(layer: Layer, file: np.ndarray, storage: np.ndarray, corrections: np.ndarray):
  library.call(
    "hetjax_cpu_relayout", ctypes.byref(layer), _data(file), _size(file.size), _data(storage),
    _size(storage.size), _data(corrections), _size(corrections.size),
  )  # fmt: skip


def conv(layer, geometry, records, storage, corrections, scale, bias, signed, out):
  library.call(
    "hetjax_cpu_conv", ctypes.byref(layer), ctypes.byref(geometry), _data(records),
    _size(records.size), _data(storage), _size(storage.size), _data(corrections),
    _size(corrections.size), _data(scale), _data(bias), ctypes.c_int(signed), _data(out),
    _size(out.size),
  )  # fmt: skip


def quantize_pack(layout: ChannelLayout, x: np.ndarray, inv_beta: float, signed: bool):
  records = np.full((x.shape[0], layout.record_bytes), 0xAA, np.uint8)
  library.call(
    "hetjax_cpu_quantize_pack", ctypes.byref(Layer.of(layout)), _data(x), _size(x.shape[0]),
    ctypes.c_float(inv_beta), ctypes.c_int(signed), _data(records), _size(records.size),
  )  # fmt: skip
  return records


def prepared(case: Case) -> tuple[Layer, np.ndarray, np.ndarray]:
  kernel_shape = case.w_codes.shape
  layer = Layer.of(case.layout, kernel_shape)
  storage = np.full(storage_bytes(case.layout, kernel_shape), 0xAA, np.uint8)
  corrections = np.full((kernel_shape[0] * kernel_shape[1], kernel_shape[3]), -1, np.int32)
  relayout(layer, np.asarray(case.weights.codes), storage, corrections)
  return layer, storage, corrections


def geometry_of(case: Case) -> Geometry:
  (top, bottom), (left, right) = case.padding
  b, h, w, _ = case.a_codes.shape
  return Geometry(
    b, h, w, _Sizes2(*case.strides), _Sizes4(top, bottom, left, right),
    _Sizes2(*case.kernel_dilation),
  )  # fmt: skip


def run_case(case: Case, shape, scale=None, bias=None) -> np.ndarray:
  """The engine's output for a case; sentinels in `out` show what was not written."""
  layer, storage, corrections = prepared(case)
  out = np.full(shape, 0x55555555, np.int32)
  if scale is not None:
    out = np.full(shape, np.nan, np.float32)
  conv(layer, geometry_of(case), case.records, storage, corrections, scale, bias, case.signed, out)
  return out
