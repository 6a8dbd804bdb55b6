"""Images to classify and text to predict: sources, and batches as pure functions of the step.

`load_dataset` names the sources; `training_batches` turns a dataset into training batches and
`map_batches` applies a function to a whole part of it.
"""

from hetjax.data.augment import Augment
from hetjax.data.batches import Batches, map_batches, training_batches
from hetjax.data.dataset import Dataset, Split
from hetjax.data.registry import DATASETS, load_dataset
from hetjax.data.text import TextBatches, TextDataset

__all__ = [
  "DATASETS",
  "Augment",
  "Batches",
  "Dataset",
  "Split",
  "TextBatches",
  "TextDataset",
  "load_dataset",
  "map_batches",
  "training_batches",
]
