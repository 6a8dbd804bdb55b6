"""ResNet-8 on scikit-learn's 8x8 digits: the smallest complete run.

Expected: the heterogeneous network at a mean of 2 bits within one point of float32.
Wall time: about two minutes on two cores.
Command: python -m experiments.train --config experiments/configs/digits.py --workdir runs/digits
"""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
  """The configuration; every field can be overridden by --config.FIELD=VALUE."""
  return ml_collections.ConfigDict(
    {
      "data": "digits",
      "data_options": {},
      "model": "resnet8",
      "model_config": {"widths": (16, 32, 64), "stem": "cifar", "palette": (1, 2, 4)},
      "batch_size": 64,
      "seed": 0,
      "budget": {
        "quantity": "mean_bits_params",
        "limit": 2.0,
        "machine": ml_collections.config_dict.placeholder(str),
        "rate": 0.1,
        "damping": 10.0,
        "ramp_fraction": 0.6,
      },
      "target": ml_collections.config_dict.placeholder(str),
      "log_every": 50,
      "checkpoint_every": 500,
      "train": {"steps": 900, "learning_rate": 2e-3, "weight_decay": 0.0},
      "search": {
        "steps": 900,
        "learning_rate": 2e-3,
        "scale_rate": 2e-3,
        "precision_rate": 1e-2,
      },
      "finetune": {"steps": 1500, "learning_rate": 2e-3, "scale_rate": 2e-3},
    }
  )
