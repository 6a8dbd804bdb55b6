"""`python -m hetjax doctor`: what this machine can run and why not the rest."""

from __future__ import annotations

import importlib.util
import shutil
from typing import Any

import jax

from hetjax import ops, xla_cpu
from hetjax.data import DATASETS, load_dataset
from hetjax.report import Column, provenance, render, write_json

_RUNS = {
  "reference": "plain JAX, correct everywhere, slow",
  "xla_cpu": "C++ kernels",
  "triton": "kernels for GPUs; run where they are asked for",
  "mosaic_gpu": "kernels for Hopper; run where they are asked for",
}
_COMPILERS = ("clang++-19", "clang++", "g++", "c++")  # in the Makefile's order


def _compiler_here() -> str:
  found = [name for name in _COMPILERS if shutil.which(name)]
  return f"found {', '.join(found)}" if found else "none on PATH (the CPU path needs one to build)"


def _implementations() -> list[dict[str, Any]]:
  rows = []
  for name, reason in ops.implementations().items():
    detail = reason or _RUNS[name]
    if name == "xla_cpu" and not reason:
      try:
        detail = f"instruction set {xla_cpu.active_isa()}, built with {xla_cpu.compiler()}"
      except RuntimeError as error:  # HETJAX_CPU_ISA asks for what is not there
        detail = reason = str(error)
    rows.append({"what": name, "runs": not reason, "detail": detail})
  return rows


def _instruction_sets() -> list[dict[str, Any]]:
  if not xla_cpu.available()[0]:
    return []
  runnable = xla_cpu.isas()
  return [
    {
      "what": f"xla_cpu {isa}",
      "runs": isa in runnable,
      "detail": "yes" if isa in runnable else "this processor lacks its instructions",
    }
    for isa in xla_cpu.ISAS
  ]


def _gpu() -> list[dict[str, Any]]:
  rows = []
  gpus = [d for d in jax.devices() if d.platform in ("gpu", "cuda", "rocm")]
  detail = ", ".join(d.device_kind for d in gpus) or f"jax sees {jax.default_backend()} only"
  rows.append({"what": "gpu", "runs": bool(gpus), "detail": detail})
  for package in ("jax_cuda13_plugin", "jax_triton"):
    found = importlib.util.find_spec(package) is not None
    detail = "installed" if found else "not installed (extra 'gpu')"
    rows.append({"what": package, "runs": found, "detail": detail})
  return rows


def _data() -> list[dict[str, Any]]:
  rows = []
  for name in DATASETS:
    try:
      # A diagnosis looks; it does not download.
      options = {"download": False} if name == "fashion_mnist" else {}
      dataset = load_dataset(name, **options)
      count = len(dataset.labels("train"))
      detail = f"{count} training inputs of shape {dataset.input_shape}"
      rows.append({"what": f"data {name}", "runs": True, "detail": detail})
    except (OSError, ValueError) as error:
      rows.append({"what": f"data {name}", "runs": False, "detail": str(error).splitlines()[0]})
  return rows


def diagnose() -> list[dict[str, Any]]:
  """One row a capability: "what", "runs" (bool), "detail" (why not, or how)."""
  compiler = _compiler_here()
  rows = [{"what": "C++ compiler", "runs": compiler.startswith("found"), "detail": compiler}]
  return rows + _implementations() + _instruction_sets() + _gpu() + _data()


def main(json_path: str | None) -> None:
  """Prints the diagnosis and writes it as JSON if asked to."""
  rows = diagnose()
  about = provenance()
  versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
  machine = about["machine"]
  print(f"{machine['processor']}, {machine['cores']} cores, {machine['system']}\n{versions}\n")
  yes_no = lambda runs: "yes" if runs else "no"
  columns = (Column("what", "what"), Column("runs", "runs", yes_no))
  # The details stand behind the table: a long one must not widen every row.
  lines = render(rows, columns).splitlines()
  print(
    "\n".join([*lines[:2], *(f"{a}  {r['detail']}" for a, r in zip(lines[2:], rows, strict=True))])
  )
  if json_path:
    write_json(json_path, rows)
