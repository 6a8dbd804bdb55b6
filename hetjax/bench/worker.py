"""One benchmark at one number of threads: a process of its own, as pools are fixed at start.

Started by `hetjax.bench.command`: python -m hetjax.bench.worker REQUEST REPLY, both JSON files.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def environment(threads: int, isa: str | None = None) -> dict[str, str]:
  """Variables that hold every engine of a process to so many threads and, for those that can be
  told, to an instruction set.

  Args:
    threads: How many.
    isa: None, or "avx2" to restrict processors that have more.

  Raises:
    ValueError: this process may not use so many processors, or `isa` is unknown.
  """
  have = len(os.sched_getaffinity(0))
  if not 1 <= threads <= have:
    raise ValueError(f"threads must be 1 to {have}, the processors at hand, got {threads}")
  if isa not in (None, "avx2"):
    raise ValueError(f"isa must be None or 'avx2', got {isa!r}")
  names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")
  values = dict.fromkeys(names, str(threads)) | {"JAX_PLATFORMS": "cpu"}
  # Every call is waited for: handing it to another thread only costs.
  values |= {"JAX_CPU_ENABLE_ASYNC_DISPATCH": "false"}
  if isa:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_max_isa=AVX2".strip()
    values |= {"HETJAX_CPU_ISA": isa, "XLA_FLAGS": flags}
    values |= {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
  return values


def about() -> dict[str, Any]:
  """hetjax's instruction set and compiler, and versions of the peers or why they are missing."""
  from hetjax import xla_cpu
  from hetjax.bench.peers import PEERS, Missing

  available, reason = xla_cpu.available()
  engine = {"missing": reason}
  if available:
    engine = {"isa": xla_cpu.active_isa(), "compiler": xla_cpu.compiler()}
  peers = {}
  for peer in PEERS:
    try:
      peers[peer.name] = peer.version()
    except Missing as error:
      peers[peer.name] = f"missing: {error}"
  return {"hetjax": engine, "peers": peers}


def main(request: str, reply: str) -> None:
  """Runs what the file `request` asks for and writes rows and `about()` to the file `reply`."""
  asked = json.loads(Path(request).read_text(encoding="utf-8"))
  # The engines start their pools on the processors they may use: as many as there are threads.
  allowed = sorted(os.sched_getaffinity(0))
  os.sched_setaffinity(0, allowed[: asked["threads"]])
  # As the launchers that train; and layers alone would return their results' memory after every
  # call, which within a network they do not.
  if asked["benchmark"] in ("training", "profile"):
    from hetjax.learn import keep_memory

    keep_memory()
  from hetjax.bench.suite import run

  load = os.getloadavg()[0]  # of others, as this process has done nothing yet
  rows, more = run(asked["benchmark"], asked["threads"], asked["options"])
  answer = {"rows": rows, "about": about() | {"load_before": load}} | more
  Path(reply).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
  main(*sys.argv[1:])
