"""Fashion-MNIST: 70,000 pictures of clothes, 28x28 grey pixels, in the IDX format."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import zlib
from pathlib import Path

import numpy as np

from hetjax.data import files
from hetjax.data.augment import Augment
from hetjax.data.dataset import Dataset, Split, create_dataset

URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
TRAIN_SIZE, TEST_SIZE = 60_000, 10_000
_SIDE, _CLASSES = 28, 10
_MAX_DOWNLOAD_BYTES = 32 << 20


@dataclasses.dataclass(frozen=True)
class _File:
  """One file; the digest is that of the uncompressed contents, as distributors compress anew."""

  name: str
  sha256: str


_TRAIN = (
  _File(
    "train-images-idx3-ubyte.gz",
    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
  ),
  _File(
    "train-labels-idx1-ubyte.gz",
    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
  ),
)
_TEST = (
  _File(
    "t10k-images-idx3-ubyte.gz",
    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
  ),
  _File(
    "t10k-labels-idx1-ubyte.gz",
    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
  ),
)
_INSTRUCTIONS = (
  "install the Debian package dataset-fashion-mnist, or pass download=True, or put the four files "
  f"of {URL} into a directory and set HETJAX_DATA_DIR to it"
)


def load_fashion_mnist(
  data_dir: str | Path | None = None,
  *,
  download: bool = True,
  train_size: int = TRAIN_SIZE,
  test_size: int = TEST_SIZE,
) -> Dataset:
  """Fashion-MNIST, found on disk or downloaded once.

  Args:
    data_dir: Directory with the four files. Without it, the directories of
      `hetjax.data.files.search_path("fashion-mnist")` are looked at, then the files are downloaded.
    download: Whether to download what is nowhere on disk (30 MB, checked by SHA-256).
    train_size: Images that the training file must hold; another number than the real one is for
      data in the same format.
    test_size: The same for the test file.

  Returns:
    Images uint8[N, 28, 28, 1]; a tenth of the training images are for validation.

  Raises:
    FileNotFoundError: the files are nowhere and could not be downloaded; the message says how to
      get them.
    ValueError: a file is malformed.
  """
  directory = _find_or_download(data_dir, download)
  train = _read(directory, _TRAIN, train_size)
  test = _read(directory, _TEST, test_size)
  return create_dataset("fashion_mnist", train, test, _CLASSES, Augment(shift=2, flip=True))


def _find_or_download(data_dir, download: bool) -> Path:
  names = [f.name for f in _TRAIN + _TEST]
  candidates = files.search_path("fashion-mnist", data_dir)
  try:
    return files.find_directory(names, candidates, "Fashion-MNIST", _INSTRUCTIONS)
  except FileNotFoundError as missing:
    if data_dir is not None or not download:
      raise
    try:
      return _download(files.cache_directory() / "fashion-mnist")
    except OSError as error:
      raise FileNotFoundError(f"{missing} (Downloading failed: {error})") from error


def _download(directory: Path) -> Path:
  """Fetches the missing ones of the four files, each checked before it gets its name."""
  for file in _TRAIN + _TEST:
    if (directory / file.name).is_file():
      continue
    compressed = files.fetch(URL + file.name, _MAX_DOWNLOAD_BYTES)
    # Twice the largest file bounds what a wrong answer may unpack to.
    contents = _unpack(compressed, file.name, 2 * TRAIN_SIZE * _SIDE * _SIDE)
    digest = hashlib.sha256(contents).hexdigest()
    if digest != file.sha256:
      raise ValueError(f"{URL}{file.name} must unpack to SHA-256 {file.sha256}, got {digest}")
    files.write_atomic(directory / file.name, compressed)
  return directory


def _unpack(compressed: bytes, name: str, limit: int) -> bytes:
  """At most `limit + 1` bytes of a gzip file's contents."""
  try:
    with gzip.open(io.BytesIO(compressed)) as stream:
      return stream.read(limit + 1)
  except (EOFError, OSError, zlib.error) as error:
    raise ValueError(f"{name} must be a complete gzip file: {error}") from error


def _read(directory: Path, pair: tuple[_File, _File], size: int) -> Split:
  images = read_idx(directory / pair[0].name, (size, _SIDE, _SIDE))
  labels = read_idx(directory / pair[1].name, (size,))
  return Split(images[..., None], labels.astype(np.int32))


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
  """Reads a gzip-compressed IDX file of bytes.

  The format: 0, 0, 8 (unsigned bytes), the number of dimensions, the dimensions as big-endian
  32-bit integers, the bytes.

  Args:
    path: File to read.
    shape: The dimensions that the file must state and have.

  Returns:
    uint8[shape].

  Raises:
    ValueError: the file is not gzip, or not IDX bytes of this shape, or too short or too long.
  """
  header = bytes([0, 0, 8, len(shape)]) + np.array(shape, ">u4").tobytes()
  size = int(np.prod(shape))
  contents = _unpack(path.read_bytes(), str(path), len(header) + size)
  if contents[: len(header)] != header:
    raise ValueError(
      f"{path} must start with the IDX header {header.hex()} of bytes of shape {shape}, "
      f"got {contents[: len(header)].hex()}"
    )
  if len(contents) != len(header) + size:
    more = "more" if len(contents) > len(header) + size else len(contents) - len(header)
    raise ValueError(f"{path} must hold {size} bytes after its header, got {more}")
  return np.frombuffer(contents, np.uint8, offset=len(header)).reshape(shape)
