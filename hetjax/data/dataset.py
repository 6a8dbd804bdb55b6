"""A labelled image data set held in memory, in three parts."""

from __future__ import annotations

import dataclasses

import numpy as np

from hetjax.data import random
from hetjax.data.augment import Augment

SPLITS = ("train", "valid", "test")


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
  """Images with their labels.

  Attributes:
    images: uint8 or float32 [N, H, W, C], in the source's own units.
    labels: int32[N].

  Raises:
    ValueError: a shape or dtype differs from the above, or there is no image.
  """

  images: np.ndarray
  labels: np.ndarray

  def __post_init__(self):
    if self.images.ndim != 4 or self.images.dtype not in (np.uint8, np.float32):
      raise ValueError(
        f"images must be uint8 or float32 [N, H, W, C], got {self.images.dtype} {self.images.shape}"
      )
    if self.labels.shape != self.images.shape[:1] or self.labels.dtype != np.int32:
      raise ValueError(
        f"labels must be int32[{len(self.images)}], got {self.labels.dtype} {self.labels.shape}"
      )
    if not len(self.images):
      raise ValueError("images must hold at least one image, got none")
    # Readers share these arrays between threads; nobody may write to them.
    self.images.setflags(write=False)
    self.labels.setflags(write=False)

  def __len__(self) -> int:
    return len(self.labels)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """Training, validation and test images of one source.

  Attributes:
    name: The source's name.
    train: Images to learn from.
    valid: Images to choose by (schedules, levels); disjoint from the other two.
    test: Images to report on, never used for a choice.
    classes: Number of classes; labels are 0 .. classes - 1.
    mean: Per-channel mean of the training images, float32[C], in image units.
    std: Per-channel standard deviation of the training images, float32[C], positive.
    augment: The distortion that suits this source.

  Raises:
    ValueError: the parts disagree in image shape or dtype, a label is out of range, or mean and std
      do not fit the images.
  """

  name: str
  train: Split
  valid: Split
  test: Split
  classes: int
  mean: np.ndarray
  std: np.ndarray
  augment: Augment

  def __post_init__(self):
    shape, dtype = self.input_shape, self.train.images.dtype
    for part in SPLITS:
      split = getattr(self, part)
      if split.images.shape[1:] != shape or split.images.dtype != dtype:
        raise ValueError(
          f"{part} images must be {dtype} of shape {shape} like the training images, "
          f"got {split.images.dtype} of {split.images.shape[1:]}"
        )
      low, high = int(split.labels.min()), int(split.labels.max())
      if low < 0 or high >= self.classes:
        raise ValueError(f"{part} labels must be in 0 .. {self.classes - 1}, got {low} .. {high}")
    for field in ("mean", "std"):
      value = getattr(self, field)
      if value.shape != shape[-1:] or value.dtype != np.float32 or not np.isfinite(value).all():
        raise ValueError(f"{field} must be finite float32[{shape[-1]}], got {value!r}")
    if (self.std <= 0).any():
      raise ValueError(f"std must be positive, got {self.std.tolist()}")

  @property
  def input_shape(self) -> tuple[int, int, int]:
    """Height, width and channels of one image."""
    return self.train.images.shape[1:]

  def split(self, name: str) -> Split:
    """The part called "train", "valid" or "test"."""
    if name not in SPLITS:
      raise ValueError(f"split must be one of {SPLITS}, got {name!r}")
    return getattr(self, name)

  @property
  def model_fields(self) -> dict[str, int]:
    """What a model must know of the data."""
    return {"classes": self.classes}

  def inputs(self, split: str) -> np.ndarray:
    """The normalised images of a part, float32[n, h, w, c]."""
    return self.normalize(self.split(split).images)

  def labels(self, split: str) -> np.ndarray:
    """The labels of a part, int32[n]."""
    return self.split(split).labels

  def normalize(self, images: np.ndarray) -> np.ndarray:
    """`(images - mean) / std` per channel, float32."""
    return (images.astype(np.float32) - self.mean) / self.std


def create_dataset(
  name: str,
  train: Split,
  test: Split,
  classes: int,
  augment: Augment,
  *,
  valid: Split | None = None,
  valid_fraction: float = 0.1,
) -> Dataset:
  """A dataset whose validation part is split off the training part if it is not given.

  Mean and standard deviation are those of the training part that remains. A channel without any
  variation keeps its scale (std 1).
  """
  if valid is None:
    kept, held_out = stratified_split(train.labels, (1 - valid_fraction, valid_fraction))
    valid = Split(train.images[held_out], train.labels[held_out])
    train = Split(train.images[kept], train.labels[kept])
  mean = train.images.mean((0, 1, 2), dtype=np.float64)
  std = train.images.std((0, 1, 2), dtype=np.float64)
  std = np.where(std > 0, std, 1.0)
  return Dataset(
    name, train, valid, test, classes, mean.astype(np.float32), std.astype(np.float32), augment
  )


def stratified_split(
  labels: np.ndarray, fractions: tuple[float, ...], seed: int = 0
) -> tuple[np.ndarray, ...]:
  """Splits examples at random so that every class keeps its share in every part.

  Args:
    labels: int[N].
    fractions: Positive shares that sum to 1; every part but the first gets at least its share
      (rounded up) of every class, the first part takes what remains.
    seed: Of the random order within a class.

  Returns:
    For each fraction, the ascending indices int64 of its examples. Together they are `range(N)`.

  Raises:
    ValueError: the fractions are not positive, do not sum to 1, or leave the first part nothing.
  """
  if min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-9:
    raise ValueError(f"fractions must be positive and sum to 1, got {fractions}")
  order = random.permutation(seed, random.SPLIT, 0, len(labels))
  parts: list[list[np.ndarray]] = [[] for _ in fractions]
  for label in np.unique(labels):
    members = order[labels[order] == label]
    # 1e-9: a share such as 0.3 * 10 must not round up because of its last bit.
    sizes = [int(np.ceil(f * len(members) - 1e-9)) for f in fractions[1:]]
    sizes.insert(0, len(members) - sum(sizes))
    if sizes[0] < 1:
      raise ValueError(f"labels must hold enough examples of class {label}, got {len(members)}")
    for part, piece in zip(parts, np.split(members, np.cumsum(sizes)[:-1]), strict=True):
      part.append(piece)
  return tuple(np.sort(np.concatenate(part)) for part in parts)
