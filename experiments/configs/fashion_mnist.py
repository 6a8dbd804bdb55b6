"""ResNet-8 with a strided stem, 24-48-96 channels, on Fashion-MNIST.

Expected: the heterogeneous network at a mean of 2 bits within a point of float32.
Wall time: about 8 minutes on 2 cores; `make demo DATA=fashion_mnist`, with both baselines, 18.
Command: python -m experiments.train --config experiments/configs/fashion_mnist.py --workdir runs/fm
"""

import ml_collections

from experiments.configs import digits


def get_config() -> ml_collections.ConfigDict:
  """The configuration; every field can be overridden by --config.FIELD=VALUE."""
  config = digits.get_config()
  config.data = "fashion_mnist"
  config.model_config.widths = (24, 48, 96)
  config.model_config.stem = "strided"
  config.batch_size = 256
  config.train.steps = 1400
  config.search.steps = 900
  config.finetune.steps = 900
  return config
