"""The engine's C interface through ctypes: no JAX, no XLA in between."""

from __future__ import annotations

import ctypes

import numpy as np

from hetjax.pack import ChannelLayout
from hetjax.xla_cpu import library
from hetjax.xla_cpu.call import CORRECTIONS, storage_bytes
from tests.xla_cpu.cases import Case

_Sizes2 = ctypes.c_int64 * 2
_Sizes4 = ctypes.c_int64 * 4


class Input(ctypes.Structure):
  _fields_ = (
    ("records", ctypes.c_void_p),
    ("records_size", ctypes.c_int64),
    ("values", ctypes.c_void_p),
    ("values_size", ctypes.c_int64),
    ("inv_beta", ctypes.c_float),
    ("is_signed", ctypes.c_int),
    ("storage", ctypes.c_void_p),
    ("storage_size", ctypes.c_int64),
    ("corrections", ctypes.c_void_p),
    ("corrections_size", ctypes.c_int64),
  )


class Consumer(ctypes.Structure):
  _fields_ = (
    ("bits", ctypes.c_void_p),
    ("levels", ctypes.c_void_p),
    ("num_levels", ctypes.c_int64),
    ("inv_beta", ctypes.c_float),
    ("is_signed", ctypes.c_int),
    ("records", ctypes.c_void_p),
    ("records_size", ctypes.c_int64),
  )


class Epilogue(ctypes.Structure):
  _fields_ = (
    ("scale", ctypes.c_void_p),
    ("bias", ctypes.c_void_p),
    ("residual", ctypes.c_void_p),
    ("activation", ctypes.c_int),
    ("consumers", ctypes.c_void_p),
    ("num_consumers", ctypes.c_int64),
  )


def layer_of(layout: ChannelLayout, kernel_shape=(1, 1, 0, 1)) -> library.LayerStruct:
  kh, kw, _, n = kernel_shape
  levels = np.asarray(layout.palette.levels, np.int32)
  return library.layer_struct(layout.bits_array, levels, layout.groups, kh, kw, n)


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


def relayout(
  layer: library.LayerStruct, file: np.ndarray, storage: np.ndarray, corrections: np.ndarray
):
  library.call(
    "hetjax_cpu_relayout", ctypes.byref(layer), _data(file), _size(file.size), _data(storage),
    _size(storage.size), _data(corrections), _size(corrections.size),
  )  # fmt: skip


def conv(layer, geometry, records, storage, corrections, scale, bias, signed, out):
  given = Input(
    records.ctypes.data, records.size, None, 0, 1.0, signed, storage.ctypes.data, storage.size,
    corrections.ctypes.data, corrections.size,
  )  # fmt: skip
  epilogue = None
  if scale is not None:
    epilogue = ctypes.byref(Epilogue(scale.ctypes.data, bias.ctypes.data, None, 0, None, 0))
  library.call(
    "hetjax_cpu_conv", ctypes.byref(layer), ctypes.byref(geometry), ctypes.byref(given), epilogue,
    _data(out), _size(out.size),
  )  # fmt: skip


def quantize_pack(layout: ChannelLayout, x: np.ndarray, inv_beta: float, signed: bool):
  records = np.full((x.shape[0], layout.record_bytes), 0xAA, np.uint8)
  library.call(
    "hetjax_cpu_quantize_pack", ctypes.byref(layer_of(layout)), _data(x), _size(x.shape[0]),
    ctypes.c_float(inv_beta), ctypes.c_int(signed), _data(records), _size(records.size),
  )  # fmt: skip
  return records


def prepared(case: Case) -> tuple[library.LayerStruct, np.ndarray, np.ndarray]:
  kernel_shape = case.w_codes.shape
  layer = layer_of(case.layout, kernel_shape)
  storage = np.full(storage_bytes(case.layout, kernel_shape), 0xAA, np.uint8)
  corrections = np.full(
    (CORRECTIONS, kernel_shape[0] * kernel_shape[1], kernel_shape[3]), -1, np.int32
  )
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
