"""A small transformer that predicts the characters of a dictionary of computing.

The aim, which no committed result answers yet: at an eighth of the file, within two per cent of the
perplexity of the float32 network trained for as many steps; and beside it what learned bits are
worth at the size of two bits everywhere. Attention's projections and the perceptrons have learned
precisions, the last layer 8 bits, the table half precision. Needs Debian's package dict-foldoc.
Trials are scored on validation text; `splits` gets "test" for the final table alone.
Command: python -m experiments.compare --config experiments/configs/foldoc_language_model.py \
  --workdir runs/foldoc
"""

import ml_collections

from experiments.configs import digits

FLOAT_BYTES = 2_516_960
UNIFORM_2_BYTES = 223_206  # of the trained network with two bits everywhere


def get_config() -> ml_collections.ConfigDict:
  """The configuration; every field can be overridden by --config.FIELD=VALUE."""
  config = digits.get_config()
  config.data = "foldoc"
  config.data_options = ml_collections.ConfigDict({"context": 64})
  config.model = "language_model"
  config.model_config = ml_collections.ConfigDict(
    {
      "width": 128,
      "depth": 3,
      "heads": 4,
      # Half of a signed grid would hold the few small negative values of a GELU.
      "activation": "relu",
      "palette": (1, 2, 4),
    }
  )
  config.batch_size = 32
  config.checkpoint_every = 1000
  for phase, steps in (("train", 3000), ("search", 1000), ("finetune", 5000)):
    config[phase].steps = steps
    config[phase].label_smoothing = 0.0
    config[phase].warmup_steps = 200
  config.search.precision_rate = 2e-2
  config.finetune.scale_rate = 1e-2
  # Kernels in units of their grids are about ten times those of the float phase; all else is not.
  config.search.other_rate = config.finetune.other_rate = config.train.learning_rate
  config.search.learning_rate, config.finetune.learning_rate = 1e-2, 2e-2
  # Each phase goes on with the weights of the one before.
  config.train.end_fraction, config.search.end_fraction = 0.5, 1.0
  config.splits = ("valid",)
  within = {"quantity": "file_bytes", "limit": UNIFORM_2_BYTES}
  config.trials = (
    {"method": "float32"},
    {
      "method": "heterogeneous",
      "quantity": "file_bytes",
      "limit": int(FLOAT_BYTES / 8.05),
      # At more than three bits on average: room above four.
      "label": "levels248",
      "options": (("model_config.palette", (2, 4, 8)),),
    },
    {"method": "heterogeneous"} | within,
    {"method": "uniform", "limit": 2.0},
    {"method": "layerwise"} | within,
  )
  return config
