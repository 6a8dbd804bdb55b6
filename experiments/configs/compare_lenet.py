"""Methods at equal epochs on LeNet-300-100, which reads every pixel by an input channel of its own.

The question is that of `compare_fashion_mnist`, of a network whose channels are places of an image:
what bits are worth differs from place to place there. Six sizes for the plot, three seeds at two of
them and by multiply-accumulates.
Command: python -m experiments.compare --config experiments/configs/compare_lenet.py \
  --workdir runs/lenet
"""

import ml_collections

from experiments.configs import compare_fashion_mnist


def get_config() -> ml_collections.ConfigDict:
  """The configuration; every field can be overridden by --config.FIELD=VALUE."""
  config = compare_fashion_mnist.get_config()
  config.model = "lenet_300_100"
  config.model_config = {"palette": (1, 2, 4), "hidden": (300, 100)}
  return config
