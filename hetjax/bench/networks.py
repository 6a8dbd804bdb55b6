"""Whole networks with random weights: hetjax from packed bits, peers from float weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hetjax import models, ops, runtime
from hetjax import nn as hnn
from hetjax.bench.network_graphs import graph_of
from hetjax.bench.ours import Wrong
from hetjax.bench.peers import PEERS, Candidate, Missing, Peer, Problem
from hetjax.bench.peers.selection import FLOAT_TOLERANCE, Wanted, ready
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
from hetjax.bench.workloads import MIXES
from hetjax.report import Column

COLUMNS = (Column("network", "network"), *ENGINE_COLUMNS, *RATIO_COLUMNS, MISSING_COLUMN)
# Rounding of one engine's codes may differ from another's, and depth multiplies that: int8 results
# are compared only closely enough to tell a wrong network from a right one.
TOLERANCES = {32: 10 * FLOAT_TOLERANCE, 8: 0.25}


@dataclasses.dataclass(frozen=True)
class NetworkSpec:
  """A network of `hetjax.models` on one example.

  Attributes:
    name: As tables print it.
    model: Its name in `models.MODELS`.
    shape: Of the input, batch first.
  """

  name: str
  model: str
  shape: tuple[int, ...]


IMAGE = (1, 224, 224, 3)
NETWORKS = (
  NetworkSpec("ResNet-18", "resnet18", IMAGE),
  NetworkSpec("ResNet-50", "resnet50", IMAGE),
  NetworkSpec("MobileNetV2", "mobilenet_v2", IMAGE),
  NetworkSpec("transformer, 12 layers of 384, 128 tokens", "transformer_small", (1, 128, 384)),
)


def random_network(spec: NetworkSpec, mix: str) -> tuple[Any, dict[str, Any], Any]:
  """Model, random variables with an assignment in a mix's shares, and the model's layers."""
  shares = MIXES[mix]
  model = models.create(spec.model, palette=tuple(sorted(shares)))
  example = jax.ShapeDtypeStruct(spec.shape, jnp.float32)
  return model, models.random_variables(model, example, shares), hnn.layer_specs(model, example)


def packed_network(spec: NetworkSpec, mix: str) -> runtime.Network:
  """The fused network with random weights in a mix's shares; first and last layer have 8 bits."""
  model, variables, specs = random_network(spec, mix)
  example = jax.ShapeDtypeStruct(spec.shape, jnp.float32)
  return runtime.compile(model, hnn.pack_variables(variables, specs), example=example)


def our_candidate(spec: NetworkSpec, mix: str, x: np.ndarray) -> Candidate:
  """The fused network, checked against the unfused one on the reference implementation.

  Raises:
    Wrong: another class, or a result that is off by more than a hundredth.
  """
  model, variables, specs = random_network(spec, mix)
  packed = hnn.pack_variables(variables, specs)
  network, x = runtime.compile(model, packed), jnp.asarray(x)
  reference = {} if ops.implementations()["xla_cpu"] else {"implementation": "reference"}
  unfused = jax.jit(lambda v, x: model.apply(v, x, mode="packed", **reference))
  got, want = np.asarray(network(x)), np.asarray(unfused(packed, x))
  error = np.max(np.abs(got - want)) / np.max(np.abs(want))
  if np.argmax(got) != np.argmax(want) or not error <= 0.01:
    raise Wrong(f"{spec.name}: fused and unfused results differ by {100 * error:.2g} %")
  return Candidate(
    "fused", lambda: jax.block_until_ready(network(x)), lambda: np.asarray(network(x))
  )


def ready_peers(
  problem: Problem, peers: Sequence[Peer]
) -> tuple[dict[tuple[str, str], Candidate], list[Row]]:
  """Peers on a whole network, by name and bits, and rows of those that are missing."""
  wanted, found, absent = Wanted(problem), {}, []
  for peer in peers:
    try:
      if peer.bits not in TOLERANCES:
        raise Missing(f"no whole networks with {peer.bits}-bit weights")
      found[peer.name, f"{peer.bits}-bit"] = ready(peer, [wanted], TOLERANCES)
    except Missing as reason:
      absent.append(missing(peer.name, peer.bits, str(reason)))
  return found, absent


def measure(
  threads: int,
  *,
  seconds: float = 10.0,
  specs: Sequence[NetworkSpec] = NETWORKS,
  mixes: Sequence[str] = tuple(MIXES)[:1],
  peers: Sequence[Peer] = PEERS,
) -> list[Row]:
  """Rows of all networks; see `layers.measure`. `seconds` is per network, all engines together."""
  out: list[Row] = []
  for spec in specs:
    x = np.random.default_rng(0).normal(size=spec.shape).astype(np.float32)
    model, variables, layers = random_network(spec, next(iter(MIXES)))
    graph = graph_of(model, hnn.packing.float_variables(variables, layers), spec.shape)
    macs = sum(layer.macs for layer in layers.values())
    found, absent = ready_peers(Problem(graph, x, threads), peers)
    for mix in mixes:
      found[OURS, mix] = our_candidate(spec, mix, x)
    times = bursts({key: c.run for key, c in found.items()}, seconds=seconds, least=3)
    here = [timed(*key, times[key], candidate, macs) for key, candidate in found.items()]
    about = {"network": spec.name, "macs": macs, "threads": threads}
    out += [about | row for row in with_ratios([*here, *absent])]
  return out
