"""`python -m hetjax run`: test accuracy and batch-1 latency of a packed network."""

from __future__ import annotations

import os

import jax
import numpy as np

from hetjax.bench import interleaved
from hetjax.data import load_dataset, map_batches
from hetjax.ops import dispatch
from hetjax.report import Column, render, write_json
from hetjax.runtime import load


def main(path: str, data: str, implementation: str | None, json_path: str | None) -> None:
  """Evaluates the artifact at `path` on the test part of `data`."""
  dataset = load_dataset(data)
  network = load(path, dataset.input_shape, implementation)
  inputs, labels = dataset.inputs("test"), dataset.labels("test")
  predicted = np.argmax(map_batches(network, inputs), axis=-1)
  first = jax.device_put(inputs[:1])
  timing = interleaved({"packed": lambda: network(first)})["packed"]
  row = {
    "name": os.path.basename(path),
    "data": data,
    "implementation": dispatch.resolve(implementation),
    "inputs": len(inputs),
    "accuracy": 100.0 * float(np.mean(predicted == labels)),
    "latency_us": timing.microseconds,
    "file_bytes": os.path.getsize(path),
  }
  columns = (
    Column("name", "network"),
    Column("data", "data"),
    Column("implementation", "implementation"),
    Column("inputs", "inputs"),
    Column("accuracy", "accuracy %", lambda v: f"{v:.2f}"),
    Column("latency_us", "batch-1 us", lambda v: f"{v:.0f}"),
    Column("file_bytes", "bytes"),
  )
  print(render([row], columns))
  if json_path:
    write_json(json_path, [row])
