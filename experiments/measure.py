"""Rows of the result table: what a network scores, takes on disk, and takes in time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hetjax import models, runtime
from hetjax import nn as hnn
from hetjax.bench import interleaved
from hetjax.bench.network_graphs import graph_of
from hetjax.bench.networks import ready_peers
from hetjax.bench.peers import PEERS, Problem
from hetjax.bench.rows import NOT_BY_DEFAULT
from hetjax.bench.timing import bursts
from hetjax.core.precision import mean_bits
from hetjax.data import map_batches
from hetjax.learn.loop import predictions
from hetjax.learn.recipe import Experiment
from hetjax.nn.packing import artifact_of, float_variables
from hetjax.pack import Artifact, float32_bytes, size_breakdown, write_artifact
from hetjax.report import Column

COLUMNS = (
  Column("name", "network"),
  Column("accuracy", "test accuracy %", lambda v: f"{v:.2f}"),
  Column("mean_bits", "mean bits", lambda v: f"{v:.2f}"),
  Column("file_bytes", "file bytes"),
  Column("overhead_bytes", "of which not weights"),
  Column("compression", "compression", lambda v: f"{v:.2f}x"),
  Column("latency_us", "batch-1 us", lambda v: f"{v:.0f}"),
  Column("latency_peer_us", "XLA float32 us", lambda v: f"{v:.0f}"),
)


def _latencies(float_call, networks: Mapping[str, runtime.Network], image, seconds: float):
  """Interleaved batch-1 medians in microseconds, the float32 network's among them."""
  calls = {"float32": float_call}
  calls |= {name: functools.partial(network, image) for name, network in networks.items()}
  return {k: t.microseconds for k, t in interleaved(calls, seconds=seconds).items()}


@dataclasses.dataclass(frozen=True, eq=False)
class Packed:
  """A trained network as a file and as what runs from it.

  Attributes:
    variables: Those that were packed, slim.
    artifact: What the file holds.
    network: The loaded file.
    file_bytes: Its size.
  """

  variables: Mapping[str, Any]
  artifact: Artifact
  network: runtime.Network
  file_bytes: int


def pack(experiment: Experiment, variables: Mapping[str, Any], path: Path) -> Packed:
  """Makes trained variables slim, writes them packed to `path` and loads the file."""
  run = experiment.run
  slim = hnn.slim(run.model, variables, run.example()[:1])
  name, config = models.name_of(run.model), models.config_of(run.model)
  artifact = artifact_of(name, config, slim, run.specs)
  size = write_artifact(path, artifact)
  network = runtime.load(path, experiment.dataset.input_shape)
  return Packed(slim, artifact, network, size)


def network_rows(
  experiment: Experiment,
  trained: Mapping[str, Any],
  quantized: Mapping[str, Mapping[str, Any]],
  folder: str,
) -> list[dict[str, Any]]:
  """Makes every network slim, packs it, runs the file, and describes it in a row.

  Args:
    experiment: The recipe they were trained by.
    trained: The float network's variables.
    quantized: Name -> variables of a network with an assignment.
    folder: Where the artifacts go, one `NAME.safetensors` each.

  Returns:
    Rows for `COLUMNS`, float32 first; quantized ones also count how many test images the packed
    file classifies unlike the training-side network ("disagreements", 0 by contract).
  """
  model, specs = experiment.run.model, experiment.run.specs
  folder = Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  rows, networks = [], {}
  for name, variables in quantized.items():
    made = pack(experiment, variables, folder / f"{name.replace(' ', '-')}.safetensors")
    artifact, size, networks[name] = made.artifact, made.file_bytes, made.network
    packed = predictions(map_batches(made.network, experiment.dataset.inputs("test")))
    parts = size_breakdown(artifact)
    rows.append(
      {
        "name": name,
        "accuracy": experiment.accuracy(packed),
        "disagreements": int(np.sum(packed != experiment.predict(made.variables, "quantized"))),
        "mean_bits": float(mean_bits(artifact.assignment.bits, specs)),
        "mean_bits_macs": float(mean_bits(artifact.assignment.bits, specs, "macs")),
        "file_bytes": size,
        "overhead_bytes": size - parts["codes"],
        "sizes": parts,
      }
    )
  plain = float_variables(trained, specs)
  bytes_ = float32_bytes(plain)
  first = {
    "name": "float32",
    "accuracy": experiment.accuracy(experiment.predict(plain, "float")),
    "disagreements": 0,
    "mean_bits": 32.0,
    "mean_bits_macs": 32.0,
    "file_bytes": bytes_,
    "overhead_bytes": bytes_ - 4 * sum(s.weights for s in specs.values()),
  }
  rows = [first, *rows]
  image = jax.device_put(experiment.dataset.inputs("test")[:1])
  apply = jax.jit(lambda v, x: model.apply(v, x, mode="float"))
  plain = jax.device_put(plain)
  latency = _latencies(lambda: apply(plain, image), networks, image, seconds=4.0)
  for row in rows:
    row["compression"] = bytes_ / row["file_bytes"]
    row["latency_us"] = latency[row["name"]]
    row["latency_peer_us"] = latency["float32"]
  return rows


def channel_mix(variables: Mapping[str, Any], specs) -> dict[int, float]:
  """Share of a network's weights at each level, pinned layers left out."""
  totals: dict[int, float] = {}
  for name, spec in specs.items():
    if spec.pinned_bits is None:
      bits = np.asarray(hnn.packing.get_path(variables["assignment"], name)["bits"])
      for level, count in zip(*np.unique(bits, return_counts=True), strict=True):
        weights = float(count) * spec.weights_per_channel
        totals[int(level)] = totals.get(int(level), 0.0) + weights
  return {p: n / sum(totals.values()) for p, n in sorted(totals.items())}


def resnet18_row(mix: Mapping[int, float], seed: int) -> dict[str, Any]:
  """ResNet-18 at 224x224 with random weights, every layer's channels in the shares of `mix`.

  Latency only: the weights are random, so there is no accuracy to report.
  """
  model = models.create("resnet18")
  image = jax.random.normal(jax.random.key(seed), (1, 224, 224, 3))
  variables = models.random_variables(model, image, mix, seed)
  specs = hnn.layer_specs(model, image)
  artifact = artifact_of(models.name_of(model), models.config_of(model), variables, specs)
  network = runtime.build(artifact, image.shape[1:])
  plain = float_variables(variables, specs)
  apply = jax.jit(lambda v, x: model.apply(v, x, mode="float"))
  float_call = lambda: apply(plain, image)
  plain = jax.tree.map(jnp.asarray, plain)
  latency = _latencies(float_call, {"packed": network}, image, seconds=6.0)
  size, peer = sum(size_breakdown(artifact).values()), float32_bytes(plain)
  return {
    "name": "ResNet-18 224x224, random weights, same mix",
    "accuracy": None,
    "mean_bits": float(mean_bits(artifact.assignment.bits, specs)),
    "file_bytes": size,
    "overhead_bytes": size - size_breakdown(artifact)["codes"],
    "compression": peer / size,
    "latency_us": latency["packed"],
    "latency_peer_us": latency["float32"],
  }


def packed_files(rows: Mapping[str, Mapping[str, Any]], folder: Path) -> dict[str, Path]:
  """Files of the trials that left one, by name.

  Args:
    rows: Name of a trial -> its row.
    folder: Of the files.

  Raises:
    ValueError: a file has another size than its row says: it is another trial's.
  """
  files = {name: folder / f"{name}.safetensors" for name in rows}
  files = {name: path for name, path in files.items() if path.exists()}
  for name, path in files.items():
    size = path.stat().st_size
    if size != rows[name]["file_bytes"]:
      raise ValueError(f"{path} must have {rows[name]['file_bytes']} bytes as its row, got {size}")
  return files


def beside_engines(
  experiment: Experiment, files: Mapping[str, Path], threads: int, seconds: float, peers=PEERS
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
  """Times packed networks and float32 engines on one example, taking turns.

  Args:
    experiment: Made the networks; its model is the engines' network, with random weights.
    files: Name -> packed network.
    threads: To which the process is held already.
    seconds: For all together.
    peers: Engines to compare with; those of 32 bits are taken.

  Returns:
    A row for every network and engine, and rows that say what is missing.
  """
  model, specs = experiment.run.model, experiment.run.specs
  x = experiment.dataset.inputs("test")[:1]
  variables = model.init(jax.random.key(0), x, mode="float")
  graph = graph_of(model, float_variables(variables, specs), x.shape)
  found, absent = ready_peers(Problem(graph, x, threads), [p for p in peers if p.bits == 32])
  calls = {name: candidate.run for (name, _), candidate in found.items()}
  device = jax.device_put(x)
  for name, path in files.items():
    network = runtime.load(path, experiment.dataset.input_shape)
    calls[name] = functools.partial(lambda run: jax.block_until_ready(run(device)), network)
  times = bursts(calls, seconds=seconds)
  engines = {n: t.median for n, t in times.items() if n not in files and n not in NOT_BY_DEFAULT}
  fastest = min(engines, key=engines.get)
  rows = []
  for name, timing in times.items():
    row = {"name": name, "engine": name not in files, "threads": threads}
    row |= {"microseconds": timing.microseconds, "calls": timing.repeats}
    row |= {"low": 1e6 * timing.low, "high": 1e6 * timing.high}
    if name in files:
      row |= {"over_xla": engines["XLA float32"] / timing.median, "float32_peer": fastest}
      row["over_float32"] = engines[fastest] / timing.median
    rows.append(row)
  return rows, absent
