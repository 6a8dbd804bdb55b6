"""`python -m hetjax run`: test accuracy and batch-1 latency of a packed network."""

from __future__ import annotations

import os

import jax
import numpy as np

from hetjax.bench import interleaved
from hetjax.data import evaluation_batches, load_dataset
from hetjax.ops import dispatch
from hetjax.report import Column, render, write_json
from hetjax.runtime import load


def main(path: str, data: str, implementation: str | None, json_path: str | None) -> None:
  """Evaluates the artifact at `path` on the test images of `data`."""
  dataset = load_dataset(data)
  network = load(path, dataset.image_shape, implementation)
  right = total = 0
  for batch in evaluation_batches(dataset, "test", 250):
    predicted = np.argmax(np.asarray(network(batch["image"])), axis=-1)
    right += int(np.sum(predicted == batch["label"]))
    total += int(np.sum(batch["label"] >= 0))
  image = jax.device_put(dataset.normalize(dataset.test.images[:1]))
  timing = interleaved({"packed": lambda: network(image)})["packed"]
  row = {
    "name": os.path.basename(path),
    "data": data,
    "implementation": dispatch.resolve(implementation),
    "images": total,
    "accuracy": 100.0 * right / total,
    "latency_us": timing.microseconds,
    "file_bytes": os.path.getsize(path),
  }
  columns = (
    Column("name", "network"),
    Column("data", "data"),
    Column("implementation", "implementation"),
    Column("images", "images"),
    Column("accuracy", "accuracy %", lambda v: f"{v:.2f}"),
    Column("latency_us", "batch-1 us", lambda v: f"{v:.0f}"),
    Column("file_bytes", "bytes"),
  )
  print(render([row], columns))
  if json_path:
    write_json(json_path, [row])
