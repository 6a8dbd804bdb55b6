"""A machine as regularizers and assignment see it: granules and costs, read from JSON.

The schema, all keys required and no others allowed:

    schema               2
    name                 a short identifier
    description          what the numbers mean
    provenance           where they come from: measured, modelled, or uncalibrated, and on what
    frequency_ghz        cycles per nanosecond
    levels               bits -> {granule: channels, cycles_per_mac: cycles}
    output_granule       output channels are computed in multiples of this many
    cycles_per_byte      per byte of packed weights, for each run of a layer
    cycles_per_output    per output value, outputs rounded up to their granule
    cycles_per_position  per output position, for each level of the layer's palette
    cycles_per_op        fixed cost of running a layer

`hetjax.hardware.cost` adds them up.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hetjax.core.palette import ALLOWED_LEVELS

SCHEMA = 2
_TEXTS = ("name", "description", "provenance")
_COSTS = ("cycles_per_byte", "cycles_per_output", "cycles_per_position", "cycles_per_op")
_KEYS = ("schema", *_TEXTS, "frequency_ghz", "levels", "output_granule", *_COSTS)


@dataclasses.dataclass(frozen=True)
class Level:
  """What a machine charges for channels of one precision.

  Attributes:
    bits: The precision, one of 1, 2, 4, 8.
    granule: Channels come without loss in multiples of this many, at least 1.
    cycles_per_mac: Cycles of one multiply-accumulate, positive.
  """

  bits: int
  granule: int
  cycles_per_mac: float


@dataclasses.dataclass(frozen=True)
class Target:
  """A machine. Immutable and hashable, so it may be a static argument of a jitted function.

  Attributes:
    name: A short identifier.
    description: What the numbers mean.
    provenance: Where they come from.
    frequency_ghz: Cycles per nanosecond.
    levels: What each precision costs, by increasing bits.
    output_granule: Output channels of a group are computed in multiples of this many, at least 1;
      depthwise layers are spared.
    cycles_per_byte: Cycles per byte of packed weights, for each run of a layer.
    cycles_per_output: Cycles per output value, outputs rounded up to their granule: scale, bias,
      activation, and packing for the layer that follows.
    cycles_per_position: Cycles per output position for each level of the layer's palette: what it
      takes to unpack and pack the channels of a level, however few they are.
    cycles_per_op: Fixed cycles of running a layer.
  """

  name: str
  description: str
  provenance: str
  frequency_ghz: float
  levels: tuple[Level, ...]
  output_granule: int
  cycles_per_byte: float
  cycles_per_output: float
  cycles_per_position: float
  cycles_per_op: float

  def level(self, bits: int) -> Level:
    """The costs of a precision.

    Raises:
      ValueError: the machine does not have it.
    """
    for level in self.levels:
      if level.bits == bits:
        return level
    have = [level.bits for level in self.levels]
    raise ValueError(f"bits must be among the levels {have} of target {self.name!r}, got {bits}")

  def microseconds(self, cycles: float) -> float:
    """Time of a number of cycles at the target's frequency."""
    return cycles / (self.frequency_ghz * 1e3)

  def to_json(self) -> str:
    """The text of a file that `load_target` reads back as an equal target."""
    data = {"schema": SCHEMA} | {key: getattr(self, key) for key in _KEYS[1:]}
    data["levels"] = {
      str(v.bits): {"granule": v.granule, "cycles_per_mac": v.cycles_per_mac} for v in self.levels
    }
    return json.dumps(data, indent=2) + "\n"


def target_names() -> list[str]:
  """Names of the targets that ship with hetjax."""
  return sorted(p.name.removesuffix(".json") for p in _shipped().iterdir() if _is_json(p.name))


def load_target(name: str | os.PathLike) -> Target:
  """Reads a target.

  Args:
    name: The name of a shipped target, or the path of a JSON file (a string that ends in ".json",
      or a path object).

  Raises:
    ValueError: the name is unknown or the file is malformed; the message says where.
    OSError: the file cannot be read.
  """
  if isinstance(name, os.PathLike) or _is_json(name):
    return parse_target(Path(name).read_bytes(), str(name))
  if name not in target_names():
    raise ValueError(
      f"target must be a path ending in .json or one of {target_names()}, got {name!r}"
    )
  return parse_target((_shipped() / f"{name}.json").read_bytes(), name)


def _shipped():
  return importlib.resources.files("hetjax.hardware") / "targets"


def _is_json(name: str) -> bool:
  return name.endswith(".json")


def parse_target(text: str | bytes, where: str) -> Target:
  """Parses the JSON text of a target.

  Args:
    text: The file's contents.
    where: Its name, for messages.

  Raises:
    ValueError: the text is not JSON, a key is missing, unknown or repeated, a value is of the
      wrong type or range, or the schema is an earlier one.
  """
  try:
    data = json.loads(text, object_pairs_hook=_no_repetition, parse_constant=_no_constant)
  except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError included
    raise ValueError(f"target {where}: not valid JSON: {error}") from error
  _check_schema(data, f"target {where}")
  _check_keys(data, _KEYS, f"target {where}")
  for key in _TEXTS:
    if not isinstance(data[key], str) or not data[key]:
      raise ValueError(f"target {where}: {key} must be a non-empty string, got {data[key]!r}")
  costs = {key: _number(data[key], f"target {where}: {key}") for key in _COSTS}
  return Target(
    **{key: data[key] for key in _TEXTS},
    frequency_ghz=_number(data["frequency_ghz"], f"target {where}: frequency_ghz", positive=True),
    levels=_levels(data["levels"], f"target {where}: levels"),
    output_granule=_granule(data["output_granule"], f"target {where}: output_granule"),
    **costs,
  )


def _levels(data: Any, where: str) -> tuple[Level, ...]:
  allowed = {str(bits): bits for bits in ALLOWED_LEVELS}
  if not isinstance(data, dict) or not data or not set(data) <= set(allowed):
    raise ValueError(f"{where} must map some of {list(allowed)} to costs, got {data!r}")
  levels = []
  for key in sorted(data, key=int):
    entry, place = data[key], f"{where}.{key}"
    _check_keys(entry, ("granule", "cycles_per_mac"), place)
    granule = _granule(entry["granule"], f"{place}.granule")
    cost = _number(entry["cycles_per_mac"], f"{place}.cycles_per_mac", positive=True)
    levels.append(Level(allowed[key], granule, cost))
  return tuple(levels)


def _granule(value: Any, where: str) -> int:
  if not isinstance(value, int) or isinstance(value, bool) or value < 1:
    raise ValueError(f"{where} must be an integer of at least 1, got {value!r}")
  return value


def _check_schema(data: Any, where: str) -> None:
  # Before the keys, as other schemas have others: an old file's owner learns how to renew it.
  if not isinstance(data, Mapping) or "schema" not in data:
    return
  schema = data["schema"]
  if schema == 1 and not isinstance(schema, bool):
    raise ValueError(
      f"{where}: schema must be {SCHEMA}, got 1, that of an earlier hetjax. Measure the target "
      "anew with `python -m hetjax bench calibrate --out FILE`, or set schema to 2 and add "
      "output_granule 1, cycles_per_output 0 and cycles_per_position 0: what schema 1 meant"
    )
  if schema != SCHEMA or isinstance(schema, bool):
    raise ValueError(f"{where}: schema must be {SCHEMA}, got {schema!r}")


def _check_keys(data: Any, keys: tuple[str, ...], where: str) -> None:
  if not isinstance(data, Mapping):
    raise ValueError(f"{where} must be an object, got {data!r}")
  if set(data) != set(keys):
    missing, unknown = sorted(set(keys) - set(data)), sorted(set(data) - set(keys))
    raise ValueError(f"{where} must have the keys {keys}: missing {missing}, unknown {unknown}")


def _number(value: Any, where: str, positive: bool = False) -> float:
  kind = "positive" if positive else "non-negative"
  if not isinstance(value, int | float) or isinstance(value, bool):
    raise ValueError(f"{where} must be a {kind} number, got {value!r}")
  try:
    number = float(value)
  except OverflowError:
    number = math.inf
  if not math.isfinite(number) or number < 0 or (positive and number == 0):
    raise ValueError(f"{where} must be a finite {kind} number, got {value!r}")
  return number


def _no_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
  keys = [key for key, _ in pairs]
  if len(set(keys)) != len(keys):
    raise ValueError(f"a key is repeated in {keys}")
  return dict(pairs)


def _no_constant(text: str) -> None:
  raise ValueError(f"{text} is not a number of JSON")
