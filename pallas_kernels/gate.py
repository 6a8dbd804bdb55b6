"""One kernel for one chip: exported, compiled, counted. A process of its own, its report as JSON.

A kernel that its chip cannot run may end the whole process, and another chip's flags stay with it;
so `verify` calls `python -m pallas_kernels.gate MODULE CASE CHIP` for each.
"""

from __future__ import annotations

import collections
import importlib
import json
import sys
from typing import Any

from pallas_kernels import aot, sass
from pallas_kernels.cases import Case
from pallas_kernels.cubin import cubins

THREADS = 32  # of a warp
IMMA_WEIGHTS, IMMA_ROWS = 16 * 32, 8  # of one instruction of a warp: weights, rows it takes
IGMMA_WEIGHTS = 64 * 32 // 4  # for a warp of the four; all rows at once
EXPORT, COMPILE, BUDGET = "export", "compile", "budget"


def check(case: Case, chip: str) -> dict[str, Any]:
  """A report: `failed` names the step that failed, with `error`; otherwise there is a `budget`."""
  function, args = case.make()
  try:
    text = aot.exported(function, args, chip)
  except Exception as error:  # whatever the lowering raises is what is asked for
    return _failure(EXPORT, error)
  if case.call not in text:
    return {"failed": EXPORT, "error": f"no call of {case.call} in the module"}
  try:
    binaries = cubins(aot.compiled(function, args, chip))
  except Exception as error:
    return _failure(COMPILE, error)
  codes = [code for binary in binaries for code in sass.read(binary, aot.tools())]
  try:
    return {"budget": budget(case, codes)}
  except ValueError as error:
    return _failure(BUDGET, error)


def budget(case: Case, codes: list[sass.Code]) -> dict[str, Any]:
  """What a case's functions need, the largest of each.

  Raises:
    ValueError: a spill, or no instruction of those that the case needs.
  """
  counts = collections.Counter(n.split(".")[0] for c in codes for n in c.instructions)
  spills = sum(code.spills for code in codes)
  local = max(code.local_bytes for code in codes)
  if spills or local:
    raise ValueError(f"{spills} instructions access {local} bytes of spilled registers a thread")
  used = {name: counts[name] for name in case.needs if counts[name]}
  if case.needs and not used:
    raise ValueError(f"none of {case.needs} among the instructions")
  found = {
    "registers": max(code.registers for code in codes),
    "instructions": sum(len(code.instructions) for code in codes),
    "uses": used,
  }
  for unit, cost in (_loop_cost(case, loop) for code in codes for loop in code.loops):
    if unit:
      found[unit] = max(found.get(unit, 0.0), round(cost, 3))
  return found


def _loop_cost(case: Case, loop: tuple[str, ...]) -> tuple[str, float]:
  """Instructions of a loop for a weight and thread: "per_weight". Where population counts multiply
  32 one-bit weights, for those, loads from memory left out: "per_word". "" if neither is done."""
  names = [name.split(".")[0] for name in loop]
  counts = collections.Counter(names)
  weights = counts["IGMMA"] * IGMMA_WEIGHTS / THREADS
  weights += counts["IMMA"] / max(1, case.rows / IMMA_ROWS) * IMMA_WEIGHTS / THREADS
  weights += 4 * counts["IDP"] / case.rows
  if weights:
    return "per_weight", len(names) / weights
  if counts["POPC"]:
    return "per_word", (len(names) - counts["LDG"]) / (counts["POPC"] / case.rows)
  return "", 0.0


def _failure(step: str, error: Exception) -> dict[str, str]:
  return {"failed": step, "error": f"{type(error).__name__}: {str(error)[:2000]}"}


def main(module: str, name: str, chip: str) -> None:
  """Prints the report of a case of a module that has `cases()`."""
  (case,) = (c for c in importlib.import_module(module).cases() if c.name == name)
  print(json.dumps(check(case, chip)))


if __name__ == "__main__":
  main(*sys.argv[1:])
