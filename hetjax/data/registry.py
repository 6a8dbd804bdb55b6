"""Data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from hetjax.data.cifar10 import load_cifar10
from hetjax.data.dataset import Dataset
from hetjax.data.digits import load_digits
from hetjax.data.fashion_mnist import load_fashion_mnist
from hetjax.data.foldoc import load_foldoc
from hetjax.data.synthetic import load_synthetic, load_synthetic_text
from hetjax.data.text import TextDataset

DATASETS: MappingProxyType[str, Callable[..., Dataset | TextDataset]] = MappingProxyType(
  {
    "digits": load_digits,
    "fashion_mnist": load_fashion_mnist,
    "cifar10": load_cifar10,
    "foldoc": load_foldoc,
    "synthetic": load_synthetic,
    "synthetic_text": load_synthetic_text,
  }
)


def load_dataset(name: str, **options) -> Dataset | TextDataset:
  """Loads a data set.

  Args:
    name: A key of `DATASETS`.
    **options: Arguments of its loading function.

  Raises:
    ValueError: the name is unknown, or a file is malformed.
    FileNotFoundError: files are missing; the message says how to get them.
  """
  if name not in DATASETS:
    raise ValueError(f"dataset name must be one of {sorted(DATASETS)}, got {name!r}")
  return DATASETS[name](**options)
