"""`python -m hetjax inspect`: bits per layer, histogram, sizes in bytes against float32."""

from __future__ import annotations

import os
from typing import Any

from hetjax.core.precision import mean_bits
from hetjax.pack import Artifact, float32_file_bytes, read_artifact, size_breakdown
from hetjax.report import Column, bar, render, write_json


def layer_rows(artifact: Artifact) -> list[dict[str, Any]]:
  """One row a layer: name, kernel, channels at each level, mean bits, bytes of codes."""
  rows = []
  for name, layer in artifact.layers.items():
    spec, counts = layer.spec, artifact.assignment.counts(name)
    row = {
      "layer": name,
      "kernel": "x".join(map(str, spec.kernel_shape)),
      "groups": spec.groups,
      "pinned": spec.pinned_bits is not None,
      "mean_bits": float(layer.bits.mean()),
      "code_bytes": int(layer.weights.codes.size),
      "float32_bytes": 4 * spec.weights,
    }
    rows.append(row | {f"channels_{p}bit": counts.get(p, 0) for p in (8, 4, 2, 1)})
  return rows


def histogram(artifact: Artifact) -> list[dict[str, Any]]:
  """One row a level: channels and weights at it, and their shares."""
  channels, weights = dict.fromkeys((8, 4, 2, 1), 0), dict.fromkeys((8, 4, 2, 1), 0)
  for name, layer in artifact.layers.items():
    for level, count in artifact.assignment.counts(name).items():
      channels[level] += count
      weights[level] += count * layer.spec.weights_per_channel
  return [
    {
      "level": level,
      "channels": channels[level],
      "weights": weights[level],
      "channel_share": channels[level] / sum(channels.values()),
      "weight_share": weights[level] / sum(weights.values()),
    }
    for level in channels
    if channels[level]
  ]


def main(path: str, json_path: str | None) -> None:
  """Prints what an artifact holds and writes it as JSON if asked to."""
  artifact = read_artifact(path)
  rows, levels = layer_rows(artifact), histogram(artifact)
  sizes, file_bytes = size_breakdown(artifact), os.path.getsize(path)
  float_bytes = float32_file_bytes(artifact)
  config = ", ".join(f"{k}={v}" for k, v in artifact.model_config.items())
  print(f"{artifact.model_name}({config}), packed by hetjax {artifact.hetjax_version}\n")
  present = [h["level"] for h in levels]
  columns = [Column("layer", "layer"), Column("kernel", "kernel")]
  columns += [Column(f"channels_{p}bit", f"{p}-bit") for p in present]
  columns += [
    Column("mean_bits", "mean bits", lambda v: f"{v:.2f}"),
    Column("code_bytes", "bytes"),
    Column("float32_bytes", "float32 bytes"),
  ]
  print(render(rows, columns))
  print("\nchannels                                            weights")
  for h in levels:
    print(
      f"{h['level']}-bit {bar(h['channel_share'], 32):<32} {h['channels']:>6}   "
      f"{bar(h['weight_share'], 32):<32} {h['weights']:>9}"
    )
  specs, bits = artifact.specs, artifact.assignment.bits
  by_params = float(mean_bits(bits, specs, "params"))
  by_macs = float(mean_bits(bits, specs, "macs"))
  parts = ", ".join(f"{k} {v}" for k, v in sizes.items())
  print(f"\nmean bits {by_params:.3f} by parameters, {by_macs:.3f} by multiply-accumulates")
  print(f"file {file_bytes} bytes ({parts})")
  print(f"float32 {float_bytes} bytes; compression {float_bytes / file_bytes:.2f}x")
  if json_path:
    write_json(
      json_path,
      rows,
      levels=levels,
      sizes=sizes,
      file_bytes=file_bytes,
      float32_bytes=float_bytes,
      compression=float_bytes / file_bytes,
      mean_bits_params=by_params,
      mean_bits_macs=by_macs,
    )
