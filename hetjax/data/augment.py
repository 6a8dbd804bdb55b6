"""Training-time distortion of images: shift with padding, and mirroring."""

from __future__ import annotations

import dataclasses

import numpy as np

from hetjax.data import random


@dataclasses.dataclass(frozen=True)
class Augment:
  """What to do to a training image.

  Attributes:
    shift: Largest displacement in pixels along each axis; what moves in is zero (pad and crop).
    flip: Whether to mirror left and right with probability one half.

  Raises:
    ValueError: `shift` is negative.
  """

  shift: int = 0
  flip: bool = False

  def __post_init__(self):
    if self.shift < 0:
      raise ValueError(f"shift must be at least 0 pixels, got {self.shift}")

  def __call__(self, images: np.ndarray, seed: int, step: int) -> np.ndarray:
    """Distorts a batch; a pure function of the arguments.

    Args:
      images: [B, H, W, C], any dtype.
      seed: Seed of the run.
      step: Training step.

    Returns:
      A new array of the same shape and dtype, or `images` itself when there is nothing to do.
    """
    if not self.shift and not self.flip:
      return images
    batch, height, width, _ = images.shape
    words = random.random_bits(seed, random.AUGMENT, step, 3 * batch).reshape(3, batch)
    offsets = (words[:2] % np.uint64(2 * self.shift + 1)).astype(np.int64)
    pad = self.shift
    padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    rows = offsets[0][:, None] + np.arange(height)
    columns = offsets[1][:, None] + np.arange(width)
    if self.flip:
      mirrored = (words[2] >> np.uint64(63)).astype(bool)
      columns = np.where(mirrored[:, None], columns[:, ::-1], columns)
    return padded[np.arange(batch)[:, None, None], rows[:, :, None], columns[:, None, :]]
