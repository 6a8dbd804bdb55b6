"""Bounds on paper: how fast a layer can be at most on a GPU that nobody measured.

A layer takes at least as long as the longest of three things: moving its bytes, multiplying on the
matrix units, and issuing the instructions that unpack its codes, of which `budgets.json` counts how
many a weight takes. Between layers lies the launch of a kernel.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Mapping
from pathlib import Path

from hetjax.hardware import Level, Target
from pallas_kernels import matmul, matvec

_FOLDER = Path(__file__).parent
LANES = 128  # threads for which a multiprocessor can issue an instruction in a cycle
# Kernels of a layer: as built at least these, unpacking, the product, the epilogue, quantizing.
LAUNCHES = {False: 4, True: 1}


@dataclasses.dataclass(frozen=True)
class Chip:
  """A GPU as its data sheet has it.

  Attributes:
    name: Of the GPU.
    gb_per_s: Of its memory.
    bf16_tflops: Dense, two operations a multiply-accumulate.
    int8_tops: Likewise.
    sms: Multiprocessors.
    clock_ghz: Their clock.
    counted_on: Whose instruction counts in `budgets.json` hold for it.
    launch_us: Between two kernels that wait for one another.
  """

  name: str
  gb_per_s: float
  bf16_tflops: float
  int8_tops: float
  sms: int
  clock_ghz: float
  counted_on: str
  launch_us: float


@dataclasses.dataclass(frozen=True)
class Layer:
  """A layer on a batch.

  Attributes:
    pixels: Rows of its input.
    rows: Rows of its output.
    taps: Rows of the input that one of the output reads.
    counts: Level -> input channels; for a layer with groups, of all groups.
    outputs: Output channels.
    groups: Feature groups.
  """

  pixels: int
  rows: int
  taps: int
  counts: Mapping[int, int]
  outputs: int
  groups: int = 1

  @property
  def channels(self) -> int:
    """Input channels."""
    return sum(self.counts.values())

  @property
  def weights(self) -> int:
    """Weights of the kernel."""
    return self.taps * self.channels * self.outputs // self.groups


@dataclasses.dataclass(frozen=True)
class Bound:
  """Least microseconds of a layer: the longest of the three."""

  memory: float
  matrix: float
  issue: float = 0.0

  @property
  def longest(self) -> float:
    """What the layer takes at least."""
    return max(self.memory, self.matrix, self.issue)

  @property
  def binds(self) -> str:
    """What takes longest."""
    return max(("memory", "matrix", "issue"), key=lambda name: getattr(self, name))


@functools.cache
def chips() -> dict[str, Chip]:
  """The GPUs of `chips/roofline.json`."""
  data = json.loads((_FOLDER / "chips" / "roofline.json").read_text(encoding="utf-8"))
  return {
    name: Chip(name=name, launch_us=data["launch_us"], **fields)
    for name, fields in data["chips"].items()
  }


@functools.cache
def instructions(counted_on: str) -> dict[str, dict[int, float]]:
  """Kernel -> level -> instructions for a weight and thread, as committed.

  The kernels are "matvec", and "matmul 16" and "matmul 64" by the rows of their tiles. A weight of
  8 bits is multiplied twice.
  """
  budgets = json.loads((_FOLDER / "budgets.json").read_text(encoding="utf-8"))
  times = {1: 1, 2: 1, 4: 1, 8: 2}
  found = {
    f"matmul {rows}": {
      p: n * budgets[f"matmul {p}-bit, {rows} rows"][counted_on]["per_weight"]
      for p, n in times.items()
    }
    for rows in (16, 64)
  }
  bytewise = budgets["matvec 4-bit"][counted_on]["per_weight"]
  found["matvec"] = {p: n * bytewise for p, n in times.items()}
  found["matvec"][1] = budgets["matvec 1-bit"][counted_on]["per_word"] / 32
  return found


def packed(chip: Chip, layer: Layer, fused: bool) -> Bound:
  """Of the packed layer.

  Args:
    chip: The GPU.
    layer: The layer.
    fused: Whether records come in and go out, the latter as wide as the former, and nothing between
      them touches memory. As it is built, unpacked levels, sums and values do, each once each way.
  """
  bits = sum(p * n for p, n in layer.counts.items())
  moved = layer.weights * bits / layer.channels / 8 + layer.pixels * bits / 8
  moved += layer.rows * bits / layer.channels * layer.outputs / 8
  if not fused:
    moved += 2 * (layer.pixels * layer.channels + 8 * layer.rows * layer.outputs)
  memory = _memory(chip, moved)
  if layer.groups > 1:  # no matrix units; a multiply-accumulate is one instruction
    macs = layer.rows * layer.weights
    return Bound(memory, 0.0, _issue(chip, macs))
  of_level = {p: layer.weights * n / layer.channels for p, n in layer.counts.items()}
  # At 8 bits an activation takes two columns.
  columns = sum(n * (2 if p == 8 else 1) for p, n in of_level.items())
  per_weight = instructions(chip.counted_on)
  if layer.taps == 1 and layer.rows <= matvec.MOST_ROWS:
    work = sum(n * per_weight["matvec"][p] for p, n in of_level.items()) * layer.rows
    return Bound(memory, 0.0, _issue(chip, work))
  tile = matmul.tile_of(matmul.Tile(64, 64).outputs, layer.rows)
  tiles = math.ceil(layer.rows / tile.rows)
  # Of tiles of 32 rows nothing is counted; they need no less than those of 16.
  counts = per_weight["matmul 64" if tile.rows == 64 else "matmul 16"]
  work = sum(n * counts[p] for p, n in of_level.items()) * tiles
  matrix = _multiply(chip.int8_tops, columns * tiles * tile.rows)
  return Bound(memory, matrix, _issue(chip, work))


def dense(chip: Chip, layer: Layer, bits: int) -> Bound:
  """Of the same layer in bf16 (16 bits) or int8 (8): weights, inputs and outputs of that width."""
  numbers = layer.weights + layer.pixels * layer.channels + layer.rows * layer.outputs
  memory = _memory(chip, numbers * bits / 8)
  rate = chip.bf16_tflops if bits == 16 else chip.int8_tops
  macs = layer.rows * layer.weights
  if layer.groups > 1:  # an instruction multiplies two numbers of bf16, four of int8
    return Bound(memory, 0.0, _issue(chip, macs * bits / 32))
  return Bound(memory, _multiply(rate, macs))


def target(chip: Chip, batch: int) -> Target:
  """A GPU as training sees it: what a fused layer without groups costs an example, in cycles.

  A target adds up what a bound takes the longest of, so its cycles lie above the bound.

  Args:
    chip: The GPU.
    batch: Examples at a time, over which weights and launches are spread.
  """
  cycles = chip.clock_ghz * 1e3  # a microsecond's
  tile = matmul.Tile(64, 64).rows
  per_weight = instructions(chip.counted_on)["matmul 64"]
  level = lambda p: max(
    _multiply(chip.int8_tops, 2 if p == 8 else 1), _issue(chip, per_weight[p] / tile)
  )
  memory = _memory(chip, 1) * cycles
  return Target(
    name="gpu_" + chip.name.lower().replace(" ", "_"),
    description=(
      f"{chip.name} at batch {batch}, cycles at {chip.clock_ghz:g} GHz for an example. "
      "Multiplying or unpacking, whichever takes longer, weights and launches spread over the "
      "batch, a byte of output; fused layers, which the kernels are not yet."
    ),
    provenance="modelled: data sheet and counted instructions (docs/gpu.md), measured on no GPU",
    frequency_ghz=chip.clock_ghz,
    levels=tuple(Level(p, 32, float(f"{level(p) * cycles:.4g}")) for p in sorted(per_weight)),
    output_granule=64,
    cycles_per_byte=float(f"{memory / batch:.4g}"),
    cycles_per_output=float(f"{memory:.4g}"),
    cycles_per_position=0.0,
    cycles_per_op=float(f"{chip.launch_us * cycles / batch:.4g}"),
  )


def _memory(chip: Chip, size: float) -> float:
  return size / (chip.gb_per_s * 1e3)


def _multiply(tera_ops: float, macs: float) -> float:
  return 2 * macs / (tera_ops * 1e6)


def _issue(chip: Chip, count: float) -> float:
  return count / (chip.sms * LANES * chip.clock_ghz * 1e3)
