"""Single convolutions: hetjax's mixes and its peers, one row per engine and layer."""

from __future__ import annotations

from collections.abc import Sequence

from hetjax.bench import ours
from hetjax.bench.peers import PEERS, Candidate, Missing, Peer, Problem
from hetjax.bench.peers.selection import FLOAT_TOLERANCE, Wanted, fastest, ready
from hetjax.bench.rows import (
  ENGINE_COLUMNS,
  MISSING_COLUMN,
  OURS,
  RATIO_COLUMNS,
  Row,
  missing,
  timed,
  with_ratios,
)
from hetjax.bench.timing import bursts
from hetjax.bench.workloads import CONVS, MIXES, ConvSpec, conv_graph, conv_input
from hetjax.report import Column

COLUMNS = (Column("layer", "layer"), *ENGINE_COLUMNS, *RATIO_COLUMNS, MISSING_COLUMN)

# Layers in a row in one call. It spares an engine the changes of memory layout at the ends and the
# call from Python, which layers inside a network do not pay; every engine may also run one a call.
CHAIN = 4
# Codes at a tie may round to either side, and through a chain that spreads: steps of 1 / 255.
TOLERANCES = {32: FLOAT_TOLERANCE, 8: 8 / 255, 4: 0.02, 2: 0.02}


def contenders(
  spec: ConvSpec, threads: int, mixes: Sequence[str], peers: Sequence[Peer]
) -> tuple[dict[tuple[str, str], Candidate], list[Row]]:
  """All that run a layer, each checked and in its best setting, and rows of peers that cannot.

  Raises:
    ours.Wrong: a kernel of hetjax gives another result than the reference implementation.
  """
  found, absent = {}, []
  counts = (1, CHAIN) if spec.chains else (1,)
  x = conv_input(spec)
  wanted = [Wanted(Problem(conv_graph(spec, n), x, threads, quantized_ends=True)) for n in counts]
  for peer in peers:
    try:
      found[peer.name, f"{peer.bits}-bit"] = ready(peer, wanted, TOLERANCES)
    except Missing as reason:
      absent.append(missing(peer.name, peer.bits, str(reason)))
  for mix in mixes:
    found[OURS, mix] = fastest(ours.conv_candidates(spec, MIXES[mix], counts))
  return found, absent


def measure(
  threads: int,
  *,
  seconds: float = 2.0,
  specs: Sequence[ConvSpec] = CONVS,
  mixes: Sequence[str] = tuple(MIXES),
  peers: Sequence[Peer] = PEERS,
) -> list[Row]:
  """Rows of all layers, measured in this process, whose threads are already set.

  Args:
    threads: How many every engine uses.
    seconds: Per layer, all engines together.
    specs: The layers.
    mixes: Keys of `workloads.MIXES`.
    peers: Engines to compare with.

  Raises:
    ours.Wrong: a kernel of hetjax gives another result than the reference implementation.
  """
  out: list[Row] = []
  for spec in specs:
    found, absent = contenders(spec, threads, mixes, peers)
    times = bursts({key: c.run for key, c in found.items()}, seconds=seconds)
    here = [timed(*key, times[key], candidate, spec.macs) for key, candidate in found.items()]
    about = {"layer": spec.name, "macs": spec.macs, "threads": threads}
    out += [about | row for row in with_ratios([*here, *absent])]
  return out
