"""Text as characters to predict: a corpus in three parts, and its training batches.

The same interface as image data: `inputs` and `labels` of a part, `batch(step)` a pure function.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from hetjax.data import random
from hetjax.data.dataset import SPLITS
from hetjax.data.prefetch import Prefetcher

VOCABULARY = 96  # the newline, and the printable characters of ASCII from the space on
_NEWLINE, _SPACE, _LAST, _OTHER = 10, 32, 126, ord("?")
_BLOCKS = 20  # of consecutive blocks of this many one is for validation and one for testing


def encode(text: bytes) -> np.ndarray:
  """Tokens of a text, uint8[n]: 0 for a newline, 1 for a space, ..., 95 for a tilde.

  A carriage return before a newline goes, a tab counts as a space, any other byte as a "?".
  """
  codes = np.frombuffer(text.replace(b"\r\n", b"\n").replace(b"\t", b" "), np.uint8)
  printable = (codes >= _SPACE) & (codes <= _LAST)
  tokens = np.where(printable, codes, _OTHER) - (_SPACE - 1)
  return np.where(codes == _NEWLINE, 0, tokens).astype(np.uint8)


def decode(tokens: np.ndarray) -> str:
  """The text of tokens, the inverse of `encode`."""
  codes = np.asarray(tokens, np.uint8) + np.uint8(_SPACE - 1)
  return np.where(codes == _SPACE - 1, _NEWLINE, codes).astype(np.uint8).tobytes().decode("ascii")


@dataclasses.dataclass(frozen=True, eq=False)
class TextDataset:
  """A corpus of characters.

  Attributes:
    name: The source's name.
    train: Tokens to learn from, uint8[n].
    valid: Tokens to choose by.
    test: Tokens to report on, never used for a choice.
    context: Characters that a model reads; it predicts the one after each of them.

  Raises:
    ValueError: a part has no whole window, a token is out of range, or the context is not positive.
  """

  name: str
  train: np.ndarray
  valid: np.ndarray
  test: np.ndarray
  context: int

  def __post_init__(self):
    if self.context < 1:
      raise ValueError(f"context must be at least 1 character, got {self.context}")
    for part in SPLITS:
      tokens = getattr(self, part)
      if tokens.ndim != 1 or tokens.dtype != np.uint8:
        raise ValueError(f"{part} must be uint8[n], got {tokens.dtype}{list(tokens.shape)}")
      if len(tokens) <= self.context:
        raise ValueError(
          f"{part} must hold more than {self.context} characters, one context, got {len(tokens)}"
        )
      if int(tokens.max()) >= VOCABULARY:
        raise ValueError(f"{part} tokens must be below {VOCABULARY}, got {int(tokens.max())}")
      tokens.setflags(write=False)

  @property
  def input_shape(self) -> tuple[int]:
    """One input's shape."""
    return (self.context,)

  @property
  def model_fields(self) -> dict[str, int]:
    """What a model must know of the data."""
    return {"vocabulary": VOCABULARY, "max_length": self.context}

  def split(self, name: str) -> np.ndarray:
    """Tokens of the part called "train", "valid" or "test"."""
    if name not in SPLITS:
      raise ValueError(f"split must be one of {SPLITS}, got {name!r}")
    return getattr(self, name)

  def inputs(self, split: str) -> np.ndarray:
    """A part cut into windows, int32[n, context]; what is left over at its end is left out."""
    return self._windows(split)[:, :-1]

  def labels(self, split: str) -> np.ndarray:
    """The character after each one of `inputs`, int32[n, context]."""
    return self._windows(split)[:, 1:]

  def _windows(self, split: str) -> np.ndarray:
    tokens = self.split(split)
    starts = np.arange((len(tokens) - 1) // self.context) * self.context
    return tokens[starts[:, None] + np.arange(self.context + 1)].astype(np.int32)


def create_text_dataset(
  name: str, tokens: np.ndarray, context: int, *, block: int = 1 << 14
) -> TextDataset:
  """A corpus split by blocks, so that all parts come from all over it.

  Args:
    name: The source's name.
    tokens: uint8[n].
    context: See `TextDataset`.
    block: Characters of a block; of twenty blocks the seventh is for validation and the fourteenth
      for testing.
  """
  index = np.arange(len(tokens)) // block % _BLOCKS
  parts = {"valid": index == 6, "test": index == 13}
  parts["train"] = ~(parts["valid"] | parts["test"])
  return TextDataset(name, **{p: tokens[chosen] for p, chosen in parts.items()}, context=context)


@dataclasses.dataclass(frozen=True, eq=False)
class TextBatches:
  """Windows from random places of the training text.

  Attributes:
    dataset: Where the text comes from.
    batch_size: Windows per batch.
    seed: Rules the places.

  Raises:
    ValueError: the batch size is not positive.
  """

  dataset: TextDataset
  batch_size: int
  seed: int = 0

  def __post_init__(self):
    if self.batch_size < 1:
      raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")

  @property
  def steps_per_epoch(self) -> int:
    """Batches that hold about as many characters as the training text."""
    return max(1, len(self.dataset.train) // (self.batch_size * self.dataset.context))

  def batch(self, step: int) -> dict[str, np.ndarray]:
    """The batch of one step; the same bits whenever and wherever it is asked for.

    Args:
      step: Training step, counted from 0.

    Returns:
      "input" and "label" int32[batch_size, context], the label being the character that follows.
    """
    if step < 0:
      raise ValueError(f"step must be at least 0, got {step}")
    text, context = self.dataset.train, self.dataset.context
    words = random.random_bits(self.seed, random.WINDOWS, step, self.batch_size)
    starts = (words % np.uint64(len(text) - context)).astype(np.int64)
    windows = text[starts[:, None] + np.arange(context + 1)].astype(np.int32)
    return {"input": windows[:, :-1], "label": windows[:, 1:]}

  def prefetch(self, start_step: int, stop: int | None = None, depth: int = 2) -> Prefetcher:
    """Iterates over the batches of steps `start_step .. stop - 1`, as `Batches.prefetch`."""
    return Prefetcher(self.batch, start_step, stop, depth)
