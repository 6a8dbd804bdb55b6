"""A small vision transformer on Fashion-MNIST, attention's projections and perceptrons of few bits.

The aim: at an eighth of the file, within 0.6 points of the float32 network trained for as many
epochs (docs/results.md); and what a tenth costs, which no committed result answers yet. Choices are
made on validation images; `splits` gets "test" for the final table alone. Results hold the seconds
of each trial.
Command: python -m experiments.compare --config experiments/configs/fashion_mnist_vit.py \
  --workdir runs/vit
"""

import ml_collections

from experiments.configs import compare_fashion_mnist
from experiments.configs.compare_fashion_mnist import STEPS_PER_EPOCH

FLOAT_BYTES = 1_826_208


def get_config() -> ml_collections.ConfigDict:
  """The configuration; every field can be overridden by --config.FIELD=VALUE."""
  config = compare_fashion_mnist.get_config()
  config.model = "vit"
  config.model_config = ml_collections.ConfigDict(
    {
      "patch": 7,
      "width": 96,
      "depth": 4,
      "heads": 4,
      # Half of a signed grid would hold the few small negative values of a GELU.
      "activation": "relu",
      "palette": (2, 4, 8),
    }
  )
  for phase, epochs in (("train", 5), ("search", 3), ("finetune", 12)):
    config[phase].steps = epochs * STEPS_PER_EPOCH
    config[phase].warmup_steps = STEPS_PER_EPOCH // 2
    config[phase].end_fraction = 0.0
  # Kernels in units of their grids are about ten times those of the float phase; all else is not.
  # Of 3e-3 for everything, and kernels at 1e-2 and 2e-2 with scales at 2e-3 and 5e-3, the last were
  # best on validation images at an eighth of the file, one seed.
  config.train.learning_rate = config.search.other_rate = config.finetune.other_rate = 1e-3
  config.search.learning_rate, config.finetune.learning_rate = 1e-2, 2e-2
  config.finetune.scale_rate = 5e-3
  within = lambda ratio: {
    "method": "heterogeneous",
    "quantity": "file_bytes",
    "limit": int(FLOAT_BYTES / ratio),
  }
  config.trials = ({"method": "float32"}, within(8.05), within(10.05))
  return config
