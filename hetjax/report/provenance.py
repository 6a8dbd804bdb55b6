"""What made a result: command, commit, versions, machine, time."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

PACKAGES = ("hetjax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def _versions() -> dict[str, str]:
  found = {"python": platform.python_version()}
  for name in PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = "not installed"
  return found


def _processor() -> str:
  try:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
      if line.startswith("model name"):
        return line.partition(":")[2].strip()
  except OSError:
    pass
  return platform.processor() or platform.machine()


def _commit() -> str:
  """The checkout's commit, "+changes" if files differ from it; "unknown" outside a checkout."""
  package = Path(__file__).resolve().parents[1]

  def git(*arguments: str) -> str:
    return subprocess.run(
      ["git", "-C", str(package), *arguments],
      capture_output=True,
      text=True,
      check=True,
      timeout=10,
    ).stdout.strip()

  try:
    if Path(git("rev-parse", "--show-toplevel")) != package.parent:
      return "unknown"  # installed inside somebody else's checkout
    commit = git("rev-parse", "HEAD")
    return commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
  except (OSError, subprocess.SubprocessError):
    return "unknown"


def provenance(seed: int | None = None) -> dict[str, Any]:
  """JSON-able record of how a result came to be.

  Args:
    seed: The run's seed, or None where nothing is random.
  """
  return {
    "command": shlex.join([Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]),
    "commit": _commit(),
    "seed": seed,
    "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "versions": _versions(),
    "machine": {
      "system": platform.system(),
      "architecture": platform.machine(),
      "processor": _processor(),
      "cores": os.cpu_count(),
    },
  }
