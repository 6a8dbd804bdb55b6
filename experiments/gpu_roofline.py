"""Bounds on paper of packed networks on GPUs: over dense bf16 and int8, and what binds.

No GPU measured any of this. A figure is a ratio of two bounds (`pallas_kernels.roofline`): the time
that the dense layers take at least, over the time that the packed ones take at least.
Command: python -m experiments.gpu_roofline --markdown docs/gpu.md
With --targets hetjax/hardware/targets it writes the GPUs' targets instead.
"""

from __future__ import annotations

import collections
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags

from experiments import launch
from hetjax import models
from hetjax import nn as hnn
from hetjax.bench import markdown
from hetjax.bench.workloads import bits_of
from hetjax.core.files import write_atomically
from hetjax.core.layers import LayerSpec
from hetjax.report import Column, render, write_json
from pallas_kernels import roofline
from pallas_kernels.roofline import Chip, Layer

MIXES: dict[str, Mapping[int, float]] = {
  "4-bit": {4: 1.0},
  "25/50/25": {1: 0.25, 2: 0.5, 4: 0.25},
  "60/30/10": {1: 0.6, 2: 0.3, 4: 0.1},
  "1-bit": {1: 1.0},
}
BATCHES = (1, 16, 64, 256)
TARGET_BATCH = 16
IMAGE_NETWORKS = {"ResNet-50": "resnet50", "MobileNetV2": "mobilenet_v2", "ViT-S": "vit_small"}
_WIDTH, _HIDDEN = 4096, 11008
TRANSFORMER = "layer of a 7B transformer"
TRANSFORMER_LAYERS = [(_WIDTH, _WIDTH)] * 4 + [(_WIDTH, _HIDDEN)] * 2 + [(_HIDDEN, _WIDTH)]
NOTE = (
  "Bounds on paper, measured on no GPU. In a cell: over dense bf16, over dense int8, over bf16\n"
  "with a launch a layer, the same as the kernels are built (unfused), and what binds most."
)
COLUMNS = (
  Column("network", "network, GPU, batch"),
  *(Column(mix, mix) for mix in MIXES),
)


@functools.cache
def specs_of(network: str) -> list[LayerSpec]:
  """Quantized layers of a network on an image of 224 x 224; nothing is computed."""
  model = models.create(IMAGE_NETWORKS[network])
  example = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
  return list(hnn.layer_specs(model, example).values())


def layers_of(network: str, batch: int, mix: Mapping[int, float]) -> dict[str, Layer]:
  """Layers of a network by name. Strided ones count their input as large as their output."""
  if network == TRANSFORMER:
    return {
      f"{i}: {c} to {n}": Layer(batch, batch, 1, _counts(mix, c), n)
      for i, (c, n) in enumerate(TRANSFORMER_LAYERS)
    }
  found = {}
  for spec in specs_of(network):
    levels = {spec.pinned_bits: 1.0} if spec.pinned_bits else mix
    rows = batch * spec.positions
    counts = _counts(levels, spec.in_channels)
    found[spec.name] = Layer(rows, rows, spec.taps, counts, spec.out_channels, spec.groups)
  return found


def _counts(mix: Mapping[int, float], channels: int) -> dict[int, int]:
  return dict(collections.Counter(bits_of(mix, channels).tolist()))


def row(network: str, chip: Chip, batch: int, mix: str) -> dict[str, Any]:
  """Ratios of a network's bounds, and the share of its fused bound that each term binds."""
  layers = layers_of(network, batch, MIXES[mix]).values()
  launches = len(layers) * chip.launch_us
  total = lambda fused: sum(roofline.packed(chip, layer, fused).longest for layer in layers)
  dense = {b: sum(roofline.dense(chip, layer, b).longest for layer in layers) for b in (16, 8)}
  shares = collections.Counter()
  for layer in layers:
    bound = roofline.packed(chip, layer, True)
    shares[bound.binds] += bound.longest / total(True)
  return {
    "network": network,
    "chip": chip.name,
    "batch": batch,
    "mix": mix,
    "microseconds": total(True),
    "over_bf16": dense[16] / total(True),
    "over_int8": dense[8] / total(True),
    "over_bf16_launched": (dense[16] + launches) / (total(True) + launches),
    "over_bf16_as_built": (dense[16] + launches)
    / (total(False) + roofline.LAUNCHES[False] * launches),
    "binds": {name: round(share, 3) for name, share in shares.most_common()},
  }


def rows() -> list[dict[str, Any]]:
  """All networks, GPUs, batches and mixes."""
  networks = (*IMAGE_NETWORKS, TRANSFORMER)
  return [
    row(network, chip, batch, mix)
    for network in networks
    for chip in roofline.chips().values()
    for batch in BATCHES
    for mix in MIXES
  ]


def table(found: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
  """A line a network, GPU and batch; a column a mix."""
  lines: dict[str, dict[str, str]] = {}
  for r in found:
    if r["chip"] in names:
      key = f"{r['network']}, {r['chip']}, {r['batch']}"
      ratios = ("over_bf16", "over_int8", "over_bf16_launched", "over_bf16_as_built")
      text = " ".join(f"{r[k]:.1f}" for k in ratios)
      line = lines.setdefault(key, {"network": key})
      line[r["mix"]] = f"{text} {next(iter(r['binds']))}"
  return render(list(lines.values()), COLUMNS)


def layer_table(network: str, chip: Chip) -> str:
  """The layers of a network at batch 1, in microseconds of the fused bound."""
  found = []
  for name, layer in layers_of(network, 1, MIXES["25/50/25"]).items():
    bound = roofline.packed(chip, layer, True)
    over = roofline.dense(chip, layer, 16).longest / bound.longest
    found.append({"layer": name, **vars(bound), "binds": bound.binds, "over": over})
  micro = lambda v: f"{v:.3f}"
  columns = [
    Column("layer", "layer"),
    *(Column(k, k, micro) for k in ("memory", "matrix", "issue")),
  ]
  columns += [Column("binds", "binds"), Column("over", "over bf16", lambda v: f"{v:.1f}x")]
  return render(found, columns)


def define_flags() -> None:
  """Of the command; defined when it is called, as others' flags have the same names."""
  flags.DEFINE_list("chips", ["A100", "H100"], "GPUs of the table; the file has all.")
  flags.DEFINE_string("json", None, "Where the rows go, with versions.")
  flags.DEFINE_string("markdown", None, "A page whose marked table is replaced.")
  flags.DEFINE_string("targets", None, "Folder where a target of every GPU goes.")
  flags.DEFINE_string("layers", None, "Print the layers of this network instead.")


def main(argv: Sequence[str]) -> None:
  launch.begin(argv)
  known = roofline.chips()
  if unknown := set(flags.FLAGS.chips) - set(known):
    raise app.UsageError(f"--chips must be of {sorted(known)}, got {sorted(unknown)}")
  if flags.FLAGS.layers:
    print(layer_table(flags.FLAGS.layers, known[flags.FLAGS.chips[0]]))
    return
  if flags.FLAGS.targets:
    for target in (roofline.target(chip, TARGET_BATCH) for chip in known.values()):
      write_atomically(Path(flags.FLAGS.targets) / f"{target.name}.json", target.to_json().encode())
    return
  found = rows()
  text = table(found, flags.FLAGS.chips)
  print(text)
  if flags.FLAGS.json:
    write_json(flags.FLAGS.json, found)
  if flags.FLAGS.markdown:
    markdown.replace(flags.FLAGS.markdown, "roofline", markdown.section(NOTE, text))


if __name__ == "__main__":
  define_flags()
  app.run(main)
