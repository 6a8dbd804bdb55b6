"""scikit-learn's bundled digits: 1,797 handwritten digits of 8x8 pixels, values 0..16."""

from __future__ import annotations

import numpy as np

from hetjax.data.augment import Augment
from hetjax.data.dataset import Dataset, Split, create_dataset, stratified_split

# Nearly a third to test on: 1 point of accuracy is then more than five images.
FRACTIONS = (0.58, 0.10, 0.32)


def load_digits() -> Dataset:
  """The digits in a fixed stratified split: 58 % train, 10 % validation, 32 % test.

  Returns:
    Images uint8[N, 8, 8, 1] with values 0..16. Augmentation shifts by one pixel and does not
    mirror: a mirrored digit is another sign.
  """
  from sklearn import datasets  # here: its import takes a second that no other source needs

  bunch = datasets.load_digits()
  images = bunch.images.astype(np.uint8)[..., None]
  labels = bunch.target.astype(np.int32)
  parts = [Split(images[i], labels[i]) for i in stratified_split(labels, FRACTIONS)]
  train, valid, test = parts
  return create_dataset("digits", train, test, 10, Augment(shift=1), valid=valid)
