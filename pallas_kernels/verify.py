"""Checks of the GPU kernels, those that need a GPU where there is one.

1. numbers: the contract suite, every case, interpreted on CPU.
2. export: every kernel lowers for CUDA and is called in the exported module.
3. compile: XLA and NVIDIA's assembler accept every kernel, for every chip.
4. budget: no spilled registers, matrix instructions where they belong, and no more registers and
   instructions than `budgets.json` commits to.
5. device: the suite of step 1 on a GPU, then times beside dense products; `--json` keeps them.
   Only where there is one.

Command: python -m pallas_kernels.verify
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import app, flags

from hetjax.report import Column, render, write_json
from pallas_kernels import aot, timing
from pallas_kernels import cases as all_cases
from pallas_kernels.cases import Case
from pallas_kernels.support import CALLS, CHIPS

_tenths = lambda v: f"{v:.1f}"
TIMES = (
  Column("what", "what"),
  *(Column(key, key) for key in ("channels", "outputs", "batch", "mix")),
  *(
    Column(key, key, _tenths) for key in ("microseconds", "gb_per_s", "over_bfloat16", "over_int8")
  ),
)
BUDGETS = Path(__file__).parent / "budgets.json"
_CASES = "pallas_kernels.cases"
_ROOT = Path(__file__).parent.parent


# Whoever asks `tests.shared.backends` for backends.
_SUITES = (
  "tests/contract",
  "tests/models/test_every_family.py",
  "tests/nn/test_training_equals_inference.py",
)


def numbers(platform: str = "cpu") -> bool:
  """Step 1, or on another platform step 5."""
  return _suite(*_SUITES, "-k", " or ".join(CALLS), "--every-case", platform=platform)


def _suite(*arguments: str, platform: str) -> bool:
  if not (_ROOT / "tests").is_dir():
    raise SystemExit(f"{_ROOT} has no tests: run this in a checkout of hetjax")
  command = [sys.executable, "-m", "pytest", "-q", *arguments]
  env = {**os.environ, "JAX_PLATFORMS": platform}
  return subprocess.run(command, cwd=_ROOT, env=env, check=False).returncode == 0


def report(case: str, chip: str, module: str = _CASES) -> dict[str, Any]:
  """Steps 2 to 4 of a case for a chip, in a process of its own; see `gate.check`."""
  command = [sys.executable, "-m", "pallas_kernels.gate", module, case, chip]
  done = subprocess.run(
    command, cwd=_ROOT, env=aot.environment(), capture_output=True, text=True, check=False
  )
  if done.returncode:
    tail = "\n".join(done.stderr.strip().splitlines()[-5:])
    return {"failed": "compile", "error": f"the process ended with {done.returncode}: {tail}"}
  return json.loads(done.stdout.splitlines()[-1])


def beyond(case: Case, budget: Mapping[str, Any], committed: Mapping[str, Any] | None) -> list[str]:
  """In which a kernel needs more than was committed to, or than the case allows."""
  found = []
  for unit in ("per_weight", "per_word"):
    if case.most is not None and budget.get(unit, 0) > case.most:
      found.append(f"{unit} {budget[unit]} is more than {case.most}")
  if case.most is not None and not {"per_weight", "per_word"} & set(budget):
    found.append("no loop over weights was found")
  if committed is None:
    return [*found, "budgets.json has no such case; --update writes it"]
  for key in ("registers", "instructions", "per_weight", "per_word"):
    if budget.get(key, 0) > committed.get(key, 0):
      found.append(f"{key} {budget[key]} is more than the committed {committed.get(key, 0)}")
  return found


def compiled(update: bool) -> bool:
  """Steps 2 to 4 of all cases for all chips."""
  committed = json.loads(BUDGETS.read_text(encoding="utf-8")) if BUDGETS.exists() else {}
  cases = {case.name: case for case in all_cases.cases()}
  work = [(name, chip) for name, case in cases.items() for chip in case.chips]
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    reports = list(pool.map(lambda item: report(*item), work))
  passed, measured = True, {}
  for (name, chip), found in zip(work, reports, strict=True):
    if "failed" in found:
      print(f"FAILED {name}, {chip}: {found['failed']}: {found['error']}")
      passed = False
      continue
    budget = found["budget"]
    measured.setdefault(name, {})[chip] = budget
    known = budget if update else committed.get(name, {}).get(chip)
    problems = beyond(cases[name], budget, known)
    passed &= not problems
    shown = ", ".join(f"{k} {v}" for k, v in budget.items())
    print(f"{'FAILED' if problems else 'passed'} {name}, {chip}: {shown}", *problems, sep="; ")
  if update and passed:
    BUDGETS.write_text(json.dumps(measured, indent=2) + "\n", encoding="utf-8")
    print(loop_table(measured))
  # Among its tests are kernels with a defect each, for the step that is to find it.
  return _suite("tests/pallas_kernels", "--every-case", platform="cpu") and passed


def loop_table(budgets: Mapping[str, Any]) -> str:
  """What loops need, a Markdown table: docs/gpu.md has it of `budgets.json`."""
  shown = {"per_weight": "{:g}", "per_word": "{:g} for 32"}
  lines = [f"| | {' | '.join(chip.upper() for chip in CHIPS)} |", "|---" * (1 + len(CHIPS)) + "|"]
  for name, of_chip in budgets.items():
    cells = [
      ", ".join(text.format(found[unit]) for unit, text in shown.items() if unit in found)
      for found in (of_chip.get(chip, {}) for chip in CHIPS)
    ]
    if any(cells):
      lines.append(f"| {name} | {' | '.join(cells)} |")
  return "\n".join(lines)


def device(json_path: str | None) -> bool:
  """Step 5. Times are only taken of kernels that compute the right numbers."""
  if not _has_gpu():
    if Path("/dev/nvidiactl").exists():
      print("FAILED: there is an NVIDIA GPU that jax does not see: install hetjax[gpu]")
      return False
    print("no GPU here: step 5 was not done")
    return True
  if not numbers("cuda"):
    return False
  jax.config.update("jax_platforms", "cuda")
  rows = timing.measure(timing.Timing())
  print(render(rows, TIMES))
  if json_path:
    write_json(json_path, rows, device=jax.devices()[0].device_kind)
  return True


def _has_gpu() -> bool:
  """Whether jax finds one; asked of another process, which it may fill with errors."""
  command = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
  env = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}
  done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
  return done.returncode == 0 and done.stdout.strip() == "gpu"


def define_flags() -> None:
  """Of the command; defined when it is called, as others' flags have the same names."""
  flags.DEFINE_list("steps", ["numbers", "compiled", "device"], "Which checks to do.")
  flags.DEFINE_string("json", None, "Where the times of step 5 go.")
  flags.DEFINE_bool("update", False, "Commit to what is measured: write budgets.json.")


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"verify takes flags only, got {argv[1:]}")
  steps = {"numbers": numbers, "compiled": lambda: compiled(flags.FLAGS.update)}
  steps["device"] = lambda: device(flags.FLAGS.json)
  if unknown := set(flags.FLAGS.steps) - set(steps):
    raise app.UsageError(f"steps must be of {sorted(steps)}, got {sorted(unknown)}")
  failed = [name for name in steps if name in flags.FLAGS.steps and not steps[name]()]
  print("failed: " + ", ".join(failed) if failed else "all passed")
  if failed:
    raise SystemExit(1)


if __name__ == "__main__":
  define_flags()
  app.run(main)
