"""Methods at equal epochs on Fashion-MNIST: what learned, heterogeneous precisions are worth.

The question: does `heterogeneous` score above every other method at equal file size? It has not
been run to the end yet. Choices are made on the validation images; `splits` gets "test" for the
final table alone. Results hold the seconds that each trial took.
Command: python -m experiments.compare --config experiments/configs/compare_fashion_mnist.py \
  --workdir runs/compare
"""

import ml_collections

from experiments.configs import fashion_mnist

STEPS_PER_EPOCH = 421


def get_config() -> ml_collections.ConfigDict:
  """The configuration; every field can be overridden by --config.FIELD=VALUE."""
  config = fashion_mnist.get_config()
  config.batch_size = 128
  config.train.steps = 12 * STEPS_PER_EPOCH
  config.search.steps = 4 * STEPS_PER_EPOCH
  config.finetune.steps = 8 * STEPS_PER_EPOCH
  # Larger than in the demo, as first trials on the validation images suggest.
  config.search.learning_rate = config.finetune.learning_rate = 6e-3
  config.search.precision_rate = 2e-2
  config.splits = ("valid",)
  learned = ("heterogeneous", "layerwise", "random", "weight_rms")
  config.trials = (
    {"method": "float32"},
    *({"method": "uniform", "limit": bits} for bits in (4.0, 2.0, 1.0)),
    *(
      {"method": method, "limit": bits, "quantity": quantity}
      for quantity in ("mean_bits_params", "mean_bits_macs")
      for bits in (2.0, 1.6)
      for method in learned
    ),
  )
  return config
