"""What reads compiled kernels, on listings of its own; and on compiled kernels where tools are."""

import json
import struct
from pathlib import Path

import pytest

from pallas_kernels import aot, gate, sass, verify
from pallas_kernels import cases as all_cases
from pallas_kernels.cases import Case
from pallas_kernels.cubin import cubins
from pallas_kernels.support import CHIPS
from tests.pallas_kernels import broken

LISTING = """
.text.kernel:
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_0:
        /*0010*/                   LDG.E R2, [R4] ;
.L_x_1:
        /*0020*/                   POPC R3, R2 ;
        /*0030*/              @!P0 BRA `(.L_x_1) ;
        /*0040*/               @P1 BRA `(.L_x_0) ;
        /*0050*/              @!PT LDS RZ, [RZ] ;
        /*0060*/                   EXIT ;
.L_x_2:
        /*0070*/                   BRA `(.L_x_2);
        /*0080*/                   NOP;
"""


def test_instructions_of_a_listing_and_the_innermost_loops_that_multiply():
  names, loops = sass.parse(LISTING)
  assert names == ("MOV", "LDG.E", "POPC", "BRA", "BRA", "LDS", "EXIT")
  assert loops == (("POPC", "BRA"),)
  waiting = LISTING.replace("POPC R3, R2", "SYNCS R3, R2").replace("LDG.E", "IMMA")
  assert sass.parse(waiting)[1] == (("IMMA", "SYNCS", "BRA", "BRA"),)


def code(names=("IMMA.16832.S8.S8", "EXIT"), loops=(), registers=8, local=0, spills=0):
  return sass.Code("kernel", registers, local, spills, names, loops)


def test_a_budget_counts_what_a_loop_needs():
  case = Case("case", lambda: None, ("IMMA",), rows=16)
  loop = ("IMMA.16832.S8.S8",) * 4 + ("LOP3.LUT",) * 28  # 2 x 16 weights a thread
  assert gate.budget(case, [code(loops=(loop,))])["per_weight"] == 1.0
  words = Case("case", lambda: None, ("POPC",))
  loop = ("POPC",) * 4 + ("LDG.E",) * 2 + ("LOP3.LUT",) * 8
  found = gate.budget(words, [code(loop, (loop,)), code(registers=9)])
  assert found == {"registers": 9, "instructions": 16, "uses": {"POPC": 4}, "per_word": 3.0}
  assert gate.budget(Case("case", lambda: None), [code(loops=(("MOV", "BRA"),))]) == {
    "registers": 8, "instructions": 2, "uses": {},
  }  # fmt: skip


@pytest.mark.parametrize("spilled", [{"local": 8}, {"spills": 1}])
def test_a_budget_has_no_room_for_spills(spilled):
  with pytest.raises(ValueError, match="spilled"):
    gate.budget(Case("case", lambda: None), [code(**spilled)])


def test_a_budget_asks_for_matrix_instructions():
  with pytest.raises(ValueError, match="none of"):
    gate.budget(Case("case", lambda: None, ("IGMMA",)), [code()])


def test_more_than_was_committed_is_beyond():
  case = Case("case", lambda: None, ("IMMA",), most=2.0)
  budget = {"registers": 8, "instructions": 90, "per_weight": 1.5}
  assert verify.beyond(case, budget, budget) == []
  assert verify.beyond(case, budget, budget | {"registers": 7}) == [
    "registers 8 is more than the committed 7"
  ]
  assert "more than 2.0" in verify.beyond(case, budget | {"per_weight": 2.1}, budget)[0]
  assert "no loop" in verify.beyond(case, {"registers": 8, "instructions": 9}, budget)[0]
  assert "no such case" in verify.beyond(case, budget, None)[0]


def test_the_page_has_the_committed_loops():
  page = (Path(__file__).parents[2] / "docs" / "gpu.md").read_text()
  assert verify.loop_table(json.loads(verify.BUDGETS.read_text())) in page


def riegeli(chunks):
  """A file of simple chunks, with nothing in the headers but what is read."""
  body = b"".join(struct.pack("<QQQQQ", 0, len(c), 0, 0x72, 0) + c for c in chunks)
  body = bytes(40) + body
  blocks = [body[i : i + 65536 - 24] for i in range(0, len(body), 65536 - 24)]
  header = bytes.fromhex("83af70d10d884a3f") + bytes(16)
  return b"".join(header + b for b in blocks)


def elf(payload, machine=190):
  tables = struct.pack("<QQ", 0, 64) + bytes(6)
  sizes = struct.pack("<HHHH", 0, 0, 100, len(payload) // 100) + bytes(2)
  start = b"\x7fELF\x02\x01" + bytes(12) + struct.pack("<H", machine) + bytes(12)
  return start + tables + sizes + payload


def test_elf_files_are_found_in_nested_and_compressed_chunks():
  first, second = elf(b"a" * 100), elf(b"b" * 70_000)
  # The size, and Snappy: the size again, a literal of 61 bytes and more, then copies of what is
  # there, each overlapping itself.
  literal = first[:-92]
  assert len(literal) > 60
  size = bytes([len(first) & 127 | 128, len(first) >> 7])
  packed = size + size + bytes([60 << 2, len(literal) - 1]) + literal
  packed += bytes([(4 - 4) << 2 | 1, 1]) + bytes([(64 - 1) << 2 | 2, 1, 0])
  packed += bytes([(24 - 1) << 2 | 3, 1, 0, 0, 0])
  inner = riegeli([b"\x00\x00" + elf(b"the host's", machine=62) + second])
  compressed = b"\x73\x01\x00" + packed
  assert cubins(b"prefix" + riegeli([compressed, b"\x00\x00" + inner])) == [first, second]


def test_an_executable_without_code_is_refused():
  with pytest.raises(ValueError, match="no cubin"):
    cubins(b"nothing" * 100)


def has_tools():
  try:
    aot.tools()
  except RuntimeError:
    return False
  return True


needs_tools = pytest.mark.skipif(not has_tools(), reason="no NVIDIA tools: extra gpu-verify")


@needs_tools
@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(
  ("case", "step"),
  [
    (broken.NO_LOWERING, gate.EXPORT),
    (broken.NO_KERNEL, gate.EXPORT),
    (broken.SHARED_MEMORY, gate.COMPILE),
    (broken.SPILL, gate.BUDGET),
    (broken.NO_MATRIX_UNIT, gate.BUDGET),
  ],
)
def test_a_broken_kernel_is_found_by_the_step_meant_for_it(case, step, chip):
  assert verify.report(case, chip, broken.__name__)["failed"] == step


@needs_tools
def test_a_good_kernel_passes():
  case = all_cases.cases()[0]
  found = verify.report(case.name, "a100")
  assert found["budget"]["per_weight"] <= case.most


def test_without_tools_it_says_what_to_install(monkeypatch):
  monkeypatch.setattr(aot, "TOOLS", ("no-such-program",))
  monkeypatch.setattr(aot.importlib.util, "find_spec", lambda name: None)
  with pytest.raises(RuntimeError, match="gpu-verify"):
    aot.tools()
