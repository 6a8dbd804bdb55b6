"""Image classification data: sources, and a pipeline that is a pure function of the step.

`load_dataset` names the sources; `Batches` turns a dataset into training batches and
`evaluation_batches` into a pass over a split.
"""

from hetjax.data.augment import Augment
from hetjax.data.batches import Batches, evaluation_batches
from hetjax.data.dataset import Dataset, Split
from hetjax.data.registry import DATASETS, load_dataset

__all__ = [
  "DATASETS",
  "Augment",
  "Batches",
  "Dataset",
  "Split",
  "evaluation_batches",
  "load_dataset",
]
