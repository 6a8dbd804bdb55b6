"""Made-up tasks that need no file: noisy patterns to classify, and a text to predict."""

from __future__ import annotations

import numpy as np

from hetjax.data import random
from hetjax.data.augment import Augment
from hetjax.data.dataset import Dataset, Split, create_dataset
from hetjax.data.text import VOCABULARY, TextDataset, create_text_dataset

_NOISE = 48.0  # image units (0..255); patterns have a contrast of about 74


def load_synthetic(
  *,
  train_size: int = 2048,
  test_size: int = 1024,
  image_shape: tuple[int, int, int] = (8, 8, 1),
  classes: int = 10,
  seed: int = 0,
) -> Dataset:
  """A random pattern per class, plus noise for every image; classes take turns.

  Args:
    train_size: Training and validation images together (a tenth are for validation).
    test_size: Test images.
    image_shape: Height, width, channels.
    classes: Number of classes, at least 2.
    seed: Of patterns and noise.

  Returns:
    Images uint8[N, *image_shape]. The nearest pattern classifies almost all of them correctly.

  Raises:
    ValueError: fewer than two classes, or too few images for ten of each class in training and one
      in testing.
  """
  if classes < 2:
    raise ValueError(f"classes must be at least 2, got {classes}")
  if train_size < 10 * classes or test_size < classes:
    raise ValueError(
      f"train_size and test_size must be at least {10 * classes} and {classes}, "
      f"got {train_size} and {test_size}"
    )
  pixels = int(np.prod(image_shape))
  patterns = random.uniform(seed, random.SYNTHETIC, 0, classes * pixels) * 255
  patterns = patterns.reshape(classes, *image_shape)

  def make(size: int, index: int) -> Split:
    labels = np.arange(size, dtype=np.int32) % classes
    # The sum of four uniforms, centred and scaled to unit variance: near enough to normal.
    noise = random.uniform(seed, random.SYNTHETIC, index, 4 * size * pixels)
    noise = (noise.reshape(4, size, *image_shape).sum(0) - 2.0) * np.sqrt(3.0)
    images = np.clip(np.rint(patterns[labels] + _NOISE * noise), 0, 255)
    return Split(images.astype(np.uint8), labels)

  return create_dataset("synthetic", make(train_size, 1), make(test_size, 2), classes, Augment())


def load_synthetic_text(
  *, size: int = 20_000, context: int = 16, followers: int = 4, seed: int = 0
) -> TextDataset:
  """Characters of which each may be followed by a few others, chosen at random.

  Args:
    size: Characters of all parts.
    context: Characters that a model reads.
    followers: Choices after a character, all equally likely: the perplexity of the best model.
    seed: Of the choices and of the text.

  Raises:
    ValueError: there are no characters, or not 1 to 96 followers.
  """
  if size < 1 or not 1 <= followers <= VOCABULARY:
    raise ValueError(
      f"size must be positive and followers 1 to {VOCABULARY}, got {size} and {followers}"
    )
  order = random.random_bits(seed, random.SYNTHETIC, 0, VOCABULARY * VOCABULARY)
  order = np.argsort(order.reshape(VOCABULARY, VOCABULARY), axis=1, kind="stable")
  choices = order[:, :followers].astype(np.uint8)
  picks = random.random_bits(seed, random.SYNTHETIC, 1, size) % np.uint64(followers)
  text, token = np.empty(size, np.uint8), 0
  for i, pick in enumerate(picks.astype(np.int64)):
    token = choices[token, pick]
    text[i] = token
  return create_text_dataset("synthetic_text", text, context, block=500)
