"""Batches as a pure function of (seed, step).

Written out instead of built on grain: with images in memory a batch is one gather, and a pipeline
without an iterator state has nothing to checkpoint, so a resumed run sees the same bits by
construction.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from hetjax.data import random
from hetjax.data.augment import Augment
from hetjax.data.dataset import Dataset
from hetjax.data.prefetch import Prefetcher

Batch = dict[str, np.ndarray]


@functools.lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
  """The order of an epoch's examples. Memoized: the steps of an epoch share it."""
  order = random.permutation(seed, random.SHUFFLE, epoch, size)
  order.setflags(write=False)
  return order


@dataclasses.dataclass(frozen=True, eq=False)
class Batches:
  """Shuffled, augmented, normalised training batches of a dataset.

  Every epoch is a new order of all training images, cut into whole batches; the images left over
  (fewer than a batch) are other ones in every epoch.

  Attributes:
    dataset: Where the images come from.
    batch_size: Images per batch, at most the number of training images.
    seed: Rules order and augmentation.
    augment: True for the dataset's own distortion, False for none, or an `Augment`.

  Raises:
    ValueError: the batch size is not in 1 .. number of training images.
  """

  dataset: Dataset
  batch_size: int
  seed: int = 0
  augment: bool | Augment = True

  def __post_init__(self):
    if not 1 <= self.batch_size <= len(self.dataset.train):
      raise ValueError(
        f"batch_size must be in 1 .. {len(self.dataset.train)}, the training images of "
        f"{self.dataset.name}, got {self.batch_size}"
      )

  @property
  def steps_per_epoch(self) -> int:
    """Whole batches in one pass over the training images."""
    return len(self.dataset.train) // self.batch_size

  def indices(self, step: int) -> np.ndarray:
    """Which training images batch `step` holds, int64[batch_size]."""
    if step < 0:
      raise ValueError(f"step must be at least 0, got {step}")
    epoch, position = divmod(step, self.steps_per_epoch)
    order = _epoch_order(self.seed, epoch, len(self.dataset.train))
    return order[position * self.batch_size : (position + 1) * self.batch_size]

  def batch(self, step: int) -> Batch:
    """The batch of one step; the same bits whenever and wherever it is asked for.

    Args:
      step: Training step, counted from 0 over all epochs.

    Returns:
      "image" float32[batch_size, H, W, C], normalised after augmentation, and "label"
      int32[batch_size].
    """
    chosen = self.indices(step)
    images = self.dataset.train.images[chosen]
    augment = self.dataset.augment if self.augment is True else self.augment
    if augment:
      images = augment(images, self.seed, step)
    return {
      "image": self.dataset.normalize(images),
      "label": self.dataset.train.labels[chosen],
    }

  def prefetch(self, start_step: int, stop: int | None = None, depth: int = 2) -> Prefetcher:
    """Iterates over the batches of steps `start_step .. stop - 1`, made ahead by a thread.

    Args:
      start_step: First step.
      stop: One past the last step; None for no end.
      depth: Batches made ahead.

    Returns:
      An iterator and context manager; leaving the context (or `close`) ends the thread.
    """
    return Prefetcher(self.batch, start_step, stop, depth)


def evaluation_batches(dataset: Dataset, split: str, batch_size: int) -> Iterator[Batch]:
  """One pass over a part in its own order, undistorted, in batches of one shape.

  Args:
    dataset: Where the images come from.
    split: "train", "valid" or "test".
    batch_size: Images per batch.

  Yields:
    "image" float32[batch_size, H, W, C] normalised, and "label" int32[batch_size]. The last batch
    is filled up with copies of its last image under label -1, which no prediction equals: count
    hits over labels >= 0.

  Raises:
    ValueError: the split is unknown or the batch size is below 1.
  """
  if batch_size < 1:
    raise ValueError(f"batch_size must be at least 1, got {batch_size}")
  part = dataset.split(split)
  return _evaluation_batches(dataset, part.images, part.labels, batch_size)


def _evaluation_batches(dataset, images, labels, batch_size) -> Iterator[Batch]:
  for start in range(0, len(labels), batch_size):
    image = dataset.normalize(images[start : start + batch_size])
    label = labels[start : start + batch_size]
    missing = batch_size - len(label)
    yield {
      "image": np.pad(image, ((0, missing), (0, 0), (0, 0), (0, 0)), mode="edge"),
      "label": np.pad(label, (0, missing), constant_values=-1),
    }
