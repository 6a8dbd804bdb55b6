"""A small transformer that predicts the characters of a dictionary of computing.

The question: how much smaller does a language model get within two per cent of float perplexity?
Attention's projections and the perceptrons have learned precisions, table and last layer 8 bits or
half precision. Needs Debian's package dict-foldoc. Trials are scored on validation text; `splits`
gets "test" for the final table alone.
Command: python -m experiments.compare --config experiments/configs/foldoc_language_model.py \
  --workdir runs/foldoc
"""

import ml_collections

from experiments.configs import digits


def get_config() -> ml_collections.ConfigDict:
  """The configuration; every field can be overridden by --config.FIELD=VALUE."""
  config = digits.get_config()
  config.data = "foldoc"
  config.data_options = ml_collections.ConfigDict({"context": 64})
  config.model = "language_model"
  config.model_config = ml_collections.ConfigDict(
    {"width": 128, "depth": 3, "heads": 4, "palette": (1, 2, 4)}
  )
  config.batch_size = 32
  config.checkpoint_every = 1000
  for phase, steps in (("train", 6000), ("search", 2000), ("finetune", 4000)):
    config[phase].steps = steps
    config[phase].label_smoothing = 0.0
    config[phase].warmup_steps = 200
  config.splits = ("valid",)
  config.trials = (
    {"method": "float32"},
    {"method": "heterogeneous", "limit": 3.0},
    {"method": "uniform", "limit": 2.0},
  )
  return config
