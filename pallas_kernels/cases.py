"""The kernels that are compiled and counted, at shapes that networks have."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from hetjax.core import Palette
from hetjax.pack.layout import ChannelLayout
from pallas_kernels import grouped, matmul, matvec, quantize
from pallas_kernels.layout import MOSAIC, TRITON, columns, segments
from pallas_kernels.storage import padded_outputs
from pallas_kernels.support import CALLS, CHIPS
from pallas_kernels.window import Geometry


@dataclasses.dataclass(frozen=True)
class Case:
  """A kernel at a shape.

  Attributes:
    name: Of the case.
    make: Gives the function and the shapes of its arguments.
    needs: What the name of an instruction in it must begin with, one alternative at least.
    rows: Rows of activations that a tile of weights is multiplied with.
    most: Instructions that a loop may need, see `gate.budget`; None where only what was committed
      counts.
    chips: What it is for.
    call: What the exported module calls it by.
  """

  name: str
  make: Callable[[], tuple[Callable[..., Any], list[Any]]]
  needs: tuple[str, ...] = ()
  rows: int = 1
  most: float | None = None
  chips: tuple[str, ...] = tuple(CHIPS)
  call: str = CALLS[TRITON]


MATRIX_UNIT = ("IMMA", "IGMMA")


def _layout(mix: dict[int, int], palette: tuple[int, ...]) -> ChannelLayout:
  bits = tuple(level for level, count in mix.items() for _ in range(count))
  return ChannelLayout(bits, Palette(palette))


def _codes(
  layout: ChannelLayout, outputs: int, taps: int, storage: str = TRITON
) -> list[jax.ShapeDtypeStruct]:
  rows = padded_outputs(outputs, storage)
  return [
    jax.ShapeDtypeStruct((rows, taps * s.tap_bytes), jnp.int8)
    for s in segments(layout, storage)
    if not s.high
  ]


def _matmul(mix, outputs, geometry, tile, palette=(1, 2, 4)):
  def make():
    layout = _layout(mix, palette)
    pixels = geometry.batch * geometry.image[0] * geometry.image[1]
    x = jax.ShapeDtypeStruct((pixels, columns(layout, TRITON)), jnp.int8)

    def function(x, *codes):
      parts = segments(layout, TRITON)
      return matmul.accumulate(
        x, *codes, segments=parts, geometry=geometry, tile=tile, interpret=False
      )

    return function, [x, *_codes(layout, outputs, geometry.taps)]

  return make


def _hopper(mix, outputs, rows, palette=(1, 2, 4)):
  def make():
    from pallas_kernels import hopper  # has no place in older versions of jax

    layout = _layout(mix, palette)
    x = jax.ShapeDtypeStruct((rows, columns(layout, MOSAIC)), jnp.int8)

    def function(x, *codes):
      return hopper.accumulate(x, *codes, segments=segments(layout, MOSAIC), interpret=False)

    return function, [x, *_codes(layout, outputs, 1, MOSAIC)]

  return make


def _matvec(mix, outputs, rows, signed=True):
  def make():
    layout = _layout(mix, (1, 2, 4))
    x = jax.ShapeDtypeStruct((rows, columns(layout, TRITON)), jnp.int8)
    bits = [
      jax.ShapeDtypeStruct((rows, s.tap_bytes), jnp.int8)
      for s in segments(layout, TRITON)
      if s.level == 1
    ]

    def function(x, *rest):
      parts = segments(layout, TRITON)
      return matvec.accumulate(x, *rest, segments=parts, signed=signed, interpret=False)

    return function, [x, *bits, *_codes(layout, outputs, 1)]

  return make


def _depthwise():
  geometry = Geometry(8, (14, 14), (3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
  shapes = [(8 * 14 * 14, 96), (9, 1, 96)]
  args = [jax.ShapeDtypeStruct(shape, jnp.int16) for shape in shapes]
  return (lambda x, w: grouped.accumulate(x, w, geometry=geometry, interpret=False)), args


def _quantize(signed):
  def make():
    layout = _layout({8: 10, 4: 30, 2: 30}, (2, 4, 8))
    args = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((777, 70), ())]
    return (
      lambda x, b: quantize.quantize_pack(x, b, layout=layout, signed=signed, interpret=False)
    ), args

  return make


def _rows(rows: int) -> Geometry:
  return Geometry(1, (1, rows), (1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1))


def _window(strides: int) -> Geometry:
  return Geometry(8, (14, 14), (3, 3), (strides,) * 2, ((1, 1), (1, 1)), (1, 1))


def cases() -> list[Case]:
  """All of them, in the order of the report."""
  mix, wide = {4: 4096, 2: 4096, 1: 8192}, matmul.Tile(128, 64)
  mixed = {4: 64, 2: 64, 1: 128}
  at_64, at_16 = matmul.Tile(64, 64), matmul.Tile(64, 16)

  def product(name, mix, rows, tile, most, palette=(1, 2, 4)):
    make = _matmul(mix, 4096, _rows(rows), tile, palette)
    return Case(name, make, MATRIX_UNIT, tile.rows, most)

  def of_hopper(name, mix, rows, most, palette=(1, 2, 4)):
    make = _hopper(mix, 4096, rows, palette)
    return Case(name, make, ("IGMMA",), most=most, chips=("h100",), call=CALLS[MOSAIC])

  return [
    product("matmul 4-bit, 64 rows", {4: 4096}, 64, at_64, 3.5),
    product("matmul 2-bit, 64 rows", {2: 4096}, 64, at_64, 3.5),
    product("matmul 1-bit, 64 rows", {1: 4096}, 64, at_64, 3.0),
    product("matmul 4-bit, 64 rows, wide", {4: 4096}, 64, wide, 3.5),
    product("matmul 1-bit, 64 rows, wide", {1: 4096}, 64, wide, 3.0),
    product("matmul 4-bit, 16 rows", {4: 4096}, 16, at_16, 3.5),
    product("matmul 2-bit, 16 rows", {2: 16384}, 16, at_16, 3.5),
    product("matmul 1-bit, 16 rows", {1: 16384}, 16, at_16, 3.5),
    product("matmul 8-bit, 16 rows", {8: 4096}, 16, at_16, None, (2, 4, 8)),
    product("matmul mixed, 32 rows", mix, 32, matmul.Tile(64, 32), 3.5),
    product("matmul mixed, 64 rows", mix, 64, at_64, 3.5),
    product("matmul 8-bit, 64 rows", {8: 4096}, 64, at_64, None, (2, 4, 8)),
    of_hopper("Hopper matmul 4-bit, 64 rows", {4: 4096}, 64, 3.5),
    of_hopper("Hopper matmul 2-bit, 64 rows", {2: 4096}, 64, 3.5),
    of_hopper("Hopper matmul 1-bit, 64 rows", {1: 4096}, 64, 3.0),
    of_hopper("Hopper matmul 4-bit, 16 rows", {4: 4096}, 16, 3.5),
    of_hopper("Hopper matmul mixed, 256 rows", mix, 256, None),
    of_hopper("Hopper matmul 8-bit, 64 rows", {8: 4096}, 64, None, (2, 4, 8)),
    Case("conv 3x3, 256 mixed", _matmul(mixed, 256, _window(1), at_64), MATRIX_UNIT, 64),
    Case("conv 3x3, 256 mixed, stride 2", _matmul(mixed, 256, _window(2), at_64), MATRIX_UNIT, 64),
    Case("conv 3x3, 3 of 8-bit", _matmul({8: 3}, 16, _window(1), matmul.Tile(16, 64), (8,))),
    Case("matvec mixed, 3 rows", _matvec({4: 20, 2: 30, 1: 300}, 64, 3), ("IDP",), 3),
    Case("matvec 1-bit", _matvec({1: 65536}, 4096, 1), ("POPC",), 1, 4.0),
    Case("matvec 1-bit, 8 rows", _matvec({1: 65536}, 4096, 8), ("POPC",), 8),
    Case("matvec 4-bit", _matvec({4: 16384}, 4096, 1), ("IDP",), 1),
    Case("matvec mixed, 4 rows", _matvec(mix, 4096, 4), ("IDP",), 4),
    Case("depthwise 3x3, 96", _depthwise),
    Case("quantize and pack", _quantize(False)),
    Case("quantize and pack, signed", _quantize(True)),
  ]
