"""Batches as a pure function of (seed, step).

Written out instead of built on grain: with images in memory a batch is one gather, and a pipeline
without an iterator state has nothing to checkpoint, so a resumed run sees the same bits by
construction.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Shaped

from hetjax.data import random
from hetjax.data.augment import Augment
from hetjax.data.dataset import Dataset
from hetjax.data.prefetch import Prefetcher
from hetjax.data.text import TextBatches, TextDataset

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
      "input" float32[batch_size, H, W, C], normalised after augmentation, and "label"
      int32[batch_size].
    """
    chosen = self.indices(step)
    images = self.dataset.train.images[chosen]
    augment = self.dataset.augment if self.augment is True else self.augment
    if augment:
      images = augment(images, self.seed, step)
    return {
      "input": self.dataset.normalize(images),
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


def training_batches(
  dataset: Dataset | TextDataset, batch_size: int, seed: int
) -> Batches | TextBatches:
  """Batches of either kind of data."""
  kind = TextBatches if isinstance(dataset, TextDataset) else Batches
  return kind(dataset, batch_size, seed=seed)


def map_batches(
  function: Callable[[np.ndarray], Any], inputs: Shaped[np.ndarray, "n ..."], batch_size: int = 250
) -> Shaped[np.ndarray, "n ..."]:
  """Applies a function of batches to all inputs, in order and in batches of one size.

  Args:
    function: Of `batch_size` inputs, or of all if there are fewer; the last batch is filled up with
      copies of the last input.
    inputs: Along their first axis.
    batch_size: Inputs per call.

  Raises:
    ValueError: there are no inputs, or the batch size is below 1.
  """
  if batch_size < 1:
    raise ValueError(f"batch_size must be at least 1, got {batch_size}")
  if not len(inputs):
    raise ValueError("inputs must hold at least one, got none")
  size = min(batch_size, len(inputs))
  out = []
  for start in range(0, len(inputs), size):
    part = inputs[start : start + size]
    filled = np.concatenate([part, np.repeat(part[-1:], size - len(part), axis=0)])
    out.append(np.asarray(function(filled))[: len(part)])
  return np.concatenate(out)
