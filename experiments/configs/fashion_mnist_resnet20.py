"""ResNet-20 on Fashion-MNIST: a deeper network at fourteen times fewer bytes.

The aim, which no committed result answers yet: 14 times smaller within 0.4 points of float32, one
seed; everything trained for 40 epochs. Choices are made on validation images; `splits` gets "test"
for the final table alone. Results hold the seconds of each trial.
Command: python -m experiments.compare --config experiments/configs/fashion_mnist_resnet20.py \
  --workdir runs/resnet20
"""

import ml_collections

from experiments.configs import fashion_mnist_resnet10

FLOAT_BYTES = 2_072_696


def get_config() -> ml_collections.ConfigDict:
  """The configuration; every field can be overridden by --config.FIELD=VALUE."""
  config = fashion_mnist_resnet10.get_config()
  config.model_config.stage_sizes = (3, 3, 3)
  config.model_config.widths = (16, 32, 96)
  config.model_config.palette = ((2, 4, 8), (2, 4, 8), (1, 2, 4))
  config.trials = (
    {"method": "heterogeneous", "quantity": "file_bytes", "limit": FLOAT_BYTES // 14},
    {"method": "float32"},
  )
  return config
