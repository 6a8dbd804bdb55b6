"""CIFAR-10 in its binary format: records of one label byte and 3,072 pixel bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hetjax.data.augment import Augment
from hetjax.data.dataset import Dataset, Split, create_dataset
from hetjax.data.files import find_directory, search_path

TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_FILES = ("test_batch.bin",)
RECORDS_PER_FILE = 10_000
_SIDE, _CHANNELS, _CLASSES = 32, 3, 10
_RECORD_BYTES = 1 + _CHANNELS * _SIDE * _SIDE


def load_cifar10(
  data_dir: str | Path | None = None, *, records_per_file: int = RECORDS_PER_FILE
) -> Dataset:
  """CIFAR-10 from a directory with its six binary files.

  Args:
    data_dir: The directory (`cifar-10-batches-bin` of the archive "CIFAR-10 binary version").
      Without it, the directories of `hetjax.data.files.search_path` are looked at.
    records_per_file: Images that each file must hold; another number than the real one is for data
      in the same format.

  Returns:
    Images uint8[N, 32, 32, 3]; a tenth of the training images are for validation.

  Raises:
    FileNotFoundError: the files are nowhere; the message says where to put them.
    ValueError: a file has another size or an impossible label.
  """
  directory = find_directory(
    TRAIN_FILES + TEST_FILES,
    search_path("cifar-10-batches-bin", data_dir),
    "CIFAR-10",
    "download the archive 'CIFAR-10 binary version' from its home page "
    "(www.cs.toronto.edu/~kriz/cifar.html), unpack it, and set HETJAX_DATA_DIR to the directory "
    "that holds cifar-10-batches-bin",
  )
  train = _read([directory / f for f in TRAIN_FILES], records_per_file)
  test = _read([directory / f for f in TEST_FILES], records_per_file)
  return create_dataset("cifar10", train, test, _CLASSES, Augment(shift=4, flip=True))


def _read(paths: list[Path], records: int) -> Split:
  """The records of several files in order."""
  images, labels = [], []
  for path in paths:
    expected, size = records * _RECORD_BYTES, path.stat().st_size
    if size != expected:
      raise ValueError(
        f"{path} must have {expected} bytes ({records} records of {_RECORD_BYTES}), got {size}"
      )
    data = np.fromfile(path, np.uint8).reshape(records, _RECORD_BYTES)
    if data[:, 0].max() >= _CLASSES:
      bad = int(np.argmax(data[:, 0] >= _CLASSES))
      raise ValueError(f"{path} record {bad} must have a label below 10, got {data[bad, 0]}")
    labels.append(data[:, 0].astype(np.int32))
    images.append(data[:, 1:].reshape(-1, _CHANNELS, _SIDE, _SIDE).transpose(0, 2, 3, 1))
  return Split(np.concatenate(images), np.concatenate(labels))
