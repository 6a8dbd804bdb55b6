"""A small MobileNetV2 on Fashion-MNIST: depthwise-separable blocks of few bits.

The aim, which no committed result answers yet: at an eighth of the file, within 0.6 points of the
float32 network trained for as many epochs; and what a tenth costs. Choices are made on validation
images; `splits` gets "test" for the final table alone. Results hold the seconds of each trial.
Command: python -m experiments.compare --config experiments/configs/fashion_mnist_mobilenet.py \
  --workdir runs/mobilenet
"""

import ml_collections

from experiments.configs import compare_fashion_mnist
from experiments.configs.compare_fashion_mnist import STEPS_PER_EPOCH

FLOAT_BYTES = 1_076_824


def get_config() -> ml_collections.ConfigDict:
  """The configuration; every field can be overridden by --config.FIELD=VALUE."""
  config = compare_fashion_mnist.get_config()
  config.model = "mobilenet_v2"
  config.model_config = ml_collections.ConfigDict(
    {
      "stages": ((1, 24, 1, 1), (4, 48, 2, 2), (4, 96, 3, 2)),
      "stem_features": 24,
      "last_features": 384,
      # First blocks and depthwise layers ask for more than four bits and hold few weights.
      "palette": (2, 4, 8),
    }
  )
  for phase, epochs in (("train", 5), ("search", 3), ("finetune", 12)):
    config[phase].steps = epochs * STEPS_PER_EPOCH
  within = lambda ratio: {
    "method": "heterogeneous",
    "quantity": "file_bytes",
    "limit": int(FLOAT_BYTES / ratio),
  }
  config.trials = ({"method": "float32"}, within(8.05), within(10.05))
  return config
