import gzip
import hashlib
import os
import urllib.error

import numpy as np
import pytest

from hetjax.data import cifar10, fashion_mnist, files, load_dataset
from hetjax.data.augment import Augment
from hetjax.data.dataset import Dataset, Split, create_dataset, stratified_split

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_real_directories(monkeypatch, tmp_path):
  monkeypatch.delenv("HETJAX_DATA_DIR", raising=False)
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  monkeypatch.setattr(files, "SYSTEM_DIRECTORY", tmp_path / "system")


@pytest.fixture
def no_network(monkeypatch):
  def refuse(url, timeout):
    raise urllib.error.URLError("no network")

  monkeypatch.setattr(files.urllib.request, "urlopen", refuse)


def test_digits_split():
  dataset = load_dataset("digits")
  sizes = [len(dataset.split(part)) for part in ("train", "valid", "test")]
  assert sum(sizes) == 1797 and sizes[2] >= 0.3 * 1797 and sizes[1] >= 0.1 * 1797
  assert dataset.input_shape == (8, 8, 1) and dataset.train.images.dtype == np.uint8
  assert dataset.train.images.max() == 16
  for part in ("train", "valid", "test"):
    shares = np.bincount(dataset.split(part).labels, minlength=10) / len(dataset.split(part))
    np.testing.assert_allclose(shares, 0.1, atol=0.015)
  assert not dataset.augment.flip


def test_digits_are_the_same_every_time():
  one, other = load_dataset("digits"), load_dataset("digits")
  assert np.array_equal(one.test.images, other.test.images)
  digest = hashlib.sha256(one.test.images.tobytes() + one.test.labels.tobytes()).hexdigest()
  assert digest[:16] == PINNED_DIGITS


PINNED_DIGITS = "6691abd1f8ce528f"


def test_synthetic_is_deterministic_and_learnable():
  dataset = load_dataset("synthetic", train_size=500, test_size=300, image_shape=(6, 6, 3))
  again = load_dataset("synthetic", train_size=500, test_size=300, image_shape=(6, 6, 3))
  assert np.array_equal(dataset.train.images, again.train.images)
  other = load_dataset("synthetic", train_size=500, test_size=300, image_shape=(6, 6, 3), seed=1)
  assert not np.array_equal(dataset.train.images, other.train.images)
  flat = dataset.normalize(dataset.train.images).reshape(len(dataset.train), -1)
  centres = np.stack([flat[dataset.train.labels == c].mean(0) for c in range(10)])
  test = dataset.normalize(dataset.test.images).reshape(300, -1)
  guess = ((test[:, None] - centres) ** 2).sum(-1).argmin(1)
  assert (guess == dataset.test.labels).mean() > 0.95


def test_synthetic_refuses_impossible_sizes():
  with pytest.raises(ValueError, match="classes must be at least 2"):
    load_dataset("synthetic", classes=1)
  with pytest.raises(ValueError, match="at least 100 and 10, got 99 and 10"):
    load_dataset("synthetic", train_size=99, test_size=10)


def test_unknown_name():
  with pytest.raises(ValueError, match="must be one of .*digits.*got 'mnist'"):
    load_dataset("mnist")


def write_idx(path, array):
  header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(gzip.compress(header + array.tobytes(), mtime=0))


def write_fashion(directory, train=40, test=20):
  arrays = {}
  for name, size in (("train", train), ("t10k", test)):
    arrays[name] = RNG.integers(0, 256, (size, 28, 28), dtype=np.uint8)
    labels = (np.arange(size) % 10).astype(np.uint8)
    write_idx(directory / f"{name}-images-idx3-ubyte.gz", arrays[name])
    write_idx(directory / f"{name}-labels-idx1-ubyte.gz", labels)
  return arrays


SMALL = {"train_size": 40, "test_size": 20}


def test_fashion_mnist_is_read(tmp_path):
  arrays = write_fashion(tmp_path)
  dataset = load_dataset("fashion_mnist", data_dir=tmp_path, **SMALL)
  assert np.array_equal(dataset.test.images[..., 0], arrays["t10k"])
  assert np.array_equal(dataset.test.labels, np.arange(20) % 10)
  assert len(dataset.train) == 30 and len(dataset.valid) == 10
  together = np.concatenate([dataset.train.images, dataset.valid.images])[..., 0]
  assert sorted(map(bytes, together)) == sorted(map(bytes, arrays["train"]))


@pytest.mark.parametrize("place", ["variable", "variable/fashion-mnist", "system", "cache"])
def test_fashion_mnist_is_found(tmp_path, monkeypatch, no_network, place):
  monkeypatch.setenv("HETJAX_DATA_DIR", str(tmp_path / "variable"))
  suffix = {"system": "fashion-mnist", "cache": "hetjax/fashion-mnist"}.get(place, "")
  write_fashion(tmp_path / place / suffix)
  assert len(load_dataset("fashion_mnist", **SMALL).test) == 20


def test_fashion_mnist_missing_says_how_to_get_it(no_network):
  with pytest.raises(FileNotFoundError, match=r"dataset-fashion-mnist.*no network"):
    load_dataset("fashion_mnist")
  with pytest.raises(FileNotFoundError, match="HETJAX_DATA_DIR"):
    load_dataset("fashion_mnist", download=False)


def damage(kind, directory):
  path = directory / "train-images-idx3-ubyte.gz"
  good = gzip.decompress(path.read_bytes())
  if kind == "not gzip":
    path.write_bytes(b"hello")
  elif kind == "cut gzip":
    path.write_bytes(path.read_bytes()[:-20])
  else:
    bad = {
      "magic": b"\1" + good[1:],
      "dimension": good[:7] + b"\51" + good[8:],
      "short": good[:-1],
      "long": good + b"\0",
      "empty": b"",
    }[kind]
    path.write_bytes(gzip.compress(bad))


@pytest.mark.parametrize(
  "kind", ["not gzip", "cut gzip", "magic", "dimension", "short", "long", "empty"]
)
def test_fashion_mnist_malformed_files_are_refused(tmp_path, kind):
  write_fashion(tmp_path)
  damage(kind, tmp_path)
  with pytest.raises(ValueError, match="train-images-idx3-ubyte.gz must"):
    load_dataset("fashion_mnist", data_dir=tmp_path, **SMALL)


class _Served:
  """A directory as the network: every URL is answered by the file of the same name."""

  def __init__(self, directory):
    self.directory = directory
    self.asked = []

  def __call__(self, url, timeout):
    self.asked.append(os.path.basename(url))
    return open(self.directory / os.path.basename(url), "rb")


def test_fashion_mnist_download_checks_before_it_keeps(tmp_path, monkeypatch):
  served = _Served(tmp_path / "server")
  write_fashion(served.directory)
  monkeypatch.setattr(files.urllib.request, "urlopen", served)
  cache = tmp_path / "cache/hetjax/fashion-mnist"
  with pytest.raises(ValueError, match="must unpack to SHA-256"):
    load_dataset("fashion_mnist", **SMALL)
  assert not cache.exists()

  def with_digest(file):
    contents = gzip.decompress((served.directory / file.name).read_bytes())
    return fashion_mnist._File(file.name, hashlib.sha256(contents).hexdigest())

  for pair in ("_TRAIN", "_TEST"):
    monkeypatch.setattr(
      fashion_mnist, pair, tuple(with_digest(f) for f in getattr(fashion_mnist, pair))
    )
  served.asked.clear()
  assert len(load_dataset("fashion_mnist", **SMALL).test) == 20
  assert len(served.asked) == 4 and len(list(cache.iterdir())) == 4
  load_dataset("fashion_mnist", **SMALL)
  assert len(served.asked) == 4  # from the cache


def test_fetch_is_bounded(tmp_path, monkeypatch):
  (tmp_path / "big").write_bytes(bytes(100))
  monkeypatch.setattr(files.urllib.request, "urlopen", _Served(tmp_path))
  assert files.fetch("http://example.org/big", 100) == bytes(100)
  with pytest.raises(ValueError, match="at most 99 bytes"):
    files.fetch("http://example.org/big", 99)


def test_real_fashion_mnist_matches_its_digests_if_installed(monkeypatch):
  """The digests in the source are those of Debian's package."""
  monkeypatch.undo()
  names = [f.name for f in fashion_mnist._TRAIN + fashion_mnist._TEST]
  try:
    directory = files.find_directory(names, files.search_path("fashion-mnist"), "", "")
  except FileNotFoundError:
    return  # nothing to compare with; the download test covers the code
  for file in fashion_mnist._TEST:
    contents = gzip.decompress((directory / file.name).read_bytes())
    assert hashlib.sha256(contents).hexdigest() == file.sha256


def write_cifar(directory, records=20):
  directory.mkdir(parents=True, exist_ok=True)
  written = {}
  for name in cifar10.TRAIN_FILES + cifar10.TEST_FILES:
    images = RNG.integers(0, 256, (records, 32, 32, 3), dtype=np.uint8)
    labels = (np.arange(records) % 10).astype(np.uint8)
    planes = images.transpose(0, 3, 1, 2).reshape(records, -1)
    (directory / name).write_bytes(np.concatenate([labels[:, None], planes], 1).tobytes())
    written[name] = images
  return written


def test_cifar10_is_read(tmp_path, monkeypatch):
  written = write_cifar(tmp_path / "cifar-10-batches-bin")
  monkeypatch.setenv("HETJAX_DATA_DIR", str(tmp_path))
  dataset = load_dataset("cifar10", records_per_file=20)
  assert np.array_equal(dataset.test.images, written["test_batch.bin"])
  assert np.array_equal(dataset.test.labels, np.arange(20) % 10)
  assert len(dataset.train) == 90 and len(dataset.valid) == 10
  assert dataset.mean.shape == (3,)


def test_cifar10_wrong_sizes_and_labels_are_refused(tmp_path):
  write_cifar(tmp_path)
  with pytest.raises(ValueError, match=r"data_batch_1.bin must have 30730000 bytes.*got 61460"):
    load_dataset("cifar10", data_dir=tmp_path)
  path = tmp_path / "data_batch_3.bin"
  data = bytearray(path.read_bytes())
  for wrong in (data[:-1], data + b"\0", b""):
    path.write_bytes(wrong)
    with pytest.raises(ValueError, match=r"data_batch_3.bin must have 61460 bytes"):
      load_dataset("cifar10", data_dir=tmp_path, records_per_file=20)
  data[2 * 3073] = 10
  path.write_bytes(data)
  with pytest.raises(ValueError, match=r"data_batch_3.bin record 2 must have a label below 10"):
    load_dataset("cifar10", data_dir=tmp_path, records_per_file=20)


def test_cifar10_missing_says_how_to_get_it(tmp_path):
  with pytest.raises(FileNotFoundError, match="CIFAR-10 binary version"):
    load_dataset("cifar10")
  write_cifar(tmp_path)
  (tmp_path / "test_batch.bin").unlink()
  with pytest.raises(FileNotFoundError, match=r"test_batch\.bin"):
    load_dataset("cifar10", data_dir=tmp_path, records_per_file=20)


def test_stratified_split_keeps_shares():
  labels = RNG.integers(0, 4, 1000)
  parts = stratified_split(labels, (0.6, 0.1, 0.3))
  assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(1000))
  for part, share in zip(parts[1:], (0.1, 0.3), strict=True):
    counts = np.bincount(labels[part])
    exact = share * np.bincount(labels)
    assert (counts >= exact - 1e-9).all() and (counts < exact + 1).all()
  for fractions in ((0.5, 0.4), (1.0, 0.0)):
    with pytest.raises(ValueError, match="fractions must be positive"):
      stratified_split(labels, fractions)
  with pytest.raises(ValueError, match="enough examples"):
    stratified_split(np.array([0]), (0.5, 0.5))


def test_datasets_are_checked():
  images = np.zeros((20, 4, 4, 1), np.uint8)
  labels = (np.arange(20) % 2).astype(np.int32)
  good = Split(images, labels)
  assert create_dataset("flat", good, good, 2, Augment()).std.tolist() == [1.0]
  with pytest.raises(ValueError, match="read-only"):
    good.images[0] = 1
  for bad in (images[0], images.astype(np.float64)):
    with pytest.raises(ValueError, match="images must be uint8 or float32"):
      Split(bad, labels)
  for bad in (labels[:-1], labels.astype(np.int64)):
    with pytest.raises(ValueError, match="labels must be int32"):
      Split(images, bad)
  one = np.ones(1, np.float32)
  with pytest.raises(ValueError, match="valid images must be"):
    Dataset("x", good, Split(images[:, 1:], labels), good, 2, one, one, Augment())
  with pytest.raises(ValueError, match=r"train labels must be in 0 \.\. 0"):
    Dataset("x", good, good, good, 1, one, one, Augment())
  with pytest.raises(ValueError, match="std must be positive"):
    Dataset("x", good, good, good, 2, one, 0 * one, Augment())
  with pytest.raises(ValueError, match="mean must be finite"):
    Dataset("x", good, good, good, 2, np.ones(2, np.float32), one, Augment())
