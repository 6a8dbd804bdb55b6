"""What is in a kernel's machine code: registers, spills, instructions, loops.

Read with NVIDIA's `nvdisasm` and `cuobjdump`, of the packages that the extra `gpu-verify` names.
"""

from __future__ import annotations

import collections
import dataclasses
import re
import subprocess
import tempfile
from pathlib import Path

_INSTRUCTION = re.compile(
  r"^\s*/\*(?P<at>[0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?(?P<name>[A-Z][A-Z0-9_.]*)(?P<rest>[^;]*)"
)
_LABEL = re.compile(r"^(?P<name>\.L_x_\d+):")
_TARGET = re.compile(r"\(?(?P<name>\.L_x_\d+)\)?")
_USAGE = re.compile(
  r"Function (?P<name>\S+):\s+REG:(?P<registers>\d+) STACK:(?P<stack>\d+) SHARED:(?P<shared>\d+) "
  r"LOCAL:(?P<local>\d+)"
)
_SPILLS = ("LDL", "STL")
MULTIPLY = ("IMMA", "IGMMA", "POPC", "IDP")  # what multiplies codes


@dataclasses.dataclass(frozen=True)
class Code:
  """A kernel.

  Attributes:
    name: Of the function.
    registers: Of a thread.
    local_bytes: Memory of a thread that registers did not suffice for.
    spills: Instructions that read or write such memory.
    instructions: Names in order, padding after the end left out.
    loops: Loops that multiply and hold no smaller one that does, names of instructions each.
  """

  name: str
  registers: int
  local_bytes: int
  spills: int
  instructions: tuple[str, ...]
  loops: tuple[tuple[str, ...], ...]


def read(cubin: bytes, tools: Path) -> list[Code]:
  """The functions of a cubin that hold instructions.

  Args:
    cubin: ELF file.
    tools: Folder of `nvdisasm` and `cuobjdump`.

  Raises:
    RuntimeError: one of them fails.
  """
  with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
    file.write(cubin)
    file.flush()
    usage = _run(tools / "cuobjdump", "-res-usage", file.name)
    text = _run(tools / "nvdisasm", "-c", file.name)
  listings = dict(_functions(text))
  found = []
  for match in _USAGE.finditer(usage):
    names, loops = parse(listings.get(match["name"], ""))
    if names:
      counts = collections.Counter(n.split(".")[0] for n in names)
      spills = sum(counts[s] for s in _SPILLS)
      local = int(match["stack"]) + int(match["local"])
      found.append(Code(match["name"], int(match["registers"]), local, spills, names, loops))
  return found


def parse(listing: str) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
  """Instructions of a function's listing, and those of its innermost loops that multiply."""
  names: list[str] = []
  labels: dict[str, int] = {}
  spans: list[tuple[int, int]] = []
  for line in listing.splitlines():
    if label := _LABEL.match(line):
      labels[label["name"]] = len(names)
    elif instruction := _INSTRUCTION.match(line):
      names.append(instruction["name"])
      if instruction["name"].startswith("BRA") and (target := _TARGET.search(instruction["rest"])):
        start = labels.get(target["name"])  # known already: it leads backwards
        if start is not None and start < len(names) - 1:
          spans.append((start, len(names)))
  while names and names[-1] in ("NOP", "BRA"):  # a branch to itself and padding end a function
    names.pop()
  work = [s for s in spans if any(n.startswith(MULTIPLY) for n in names[slice(*s)])]
  inner = [s for s in work if not any(t != s and s[0] <= t[0] and t[1] <= s[1] for t in work)]
  return tuple(names), tuple(tuple(names[start:end]) for start, end in inner)


def _functions(text: str):
  """Names and listings of the functions in nvdisasm's output."""
  parts = re.split(r"^\s*\.section\s+\.text\.([^,\s]+).*$", text, flags=re.MULTILINE)
  return zip(parts[1::2], parts[2::2], strict=True)


def _run(program: Path, *arguments: str) -> str:
  done = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)
  if done.returncode:
    raise RuntimeError(f"{program.name} failed: {done.stderr.strip()[:500]}")
  return done.stdout
