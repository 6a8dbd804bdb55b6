"""Data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from hetjax.data.cifar10 import load_cifar10
from hetjax.data.dataset import Dataset
from hetjax.data.digits import load_digits
from hetjax.data.fashion_mnist import load_fashion_mnist
from hetjax.data.synthetic import load_synthetic

DATASETS: MappingProxyType[str, Callable[..., Dataset]] = MappingProxyType(
  {
    "digits": load_digits,
    "fashion_mnist": load_fashion_mnist,
    "cifar10": load_cifar10,
    "synthetic": load_synthetic,
  }
)


def load_dataset(name: str, **options) -> Dataset:
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
