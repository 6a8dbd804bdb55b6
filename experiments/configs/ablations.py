"""What each part of the recipe is worth: one change at a time, at equal epochs and mean bits.

The question: three levels against two and one, channels against layers, granules held or not, noise
on activations or not, distillation or not, scales learned or not, weights decayed or not, batch
norms re-estimated or not, gradients straight through or scaled, noise at once or growing, a float
network to start from or none (its epochs then go to the search); freezing, a longer search, a limit
that holds at once or late. Twelve epochs, three seeds, since one says little. Trials are scored on
validation images; `splits` gets "test" for the final table alone. Results hold the seconds of each
trial.
Command: python -m experiments.compare --config experiments/configs/ablations.py \
  --workdir runs/ablations
"""

import ml_collections

from experiments.configs import compare_fashion_mnist
from experiments.configs.compare_fashion_mnist import STEPS_PER_EPOCH

LIMIT = 2.1  # levels 2 and 4, with first and last layer at 8 bits, cannot have 2.0
TARGET = "cpu_avx2_zen3"
GRANULES = {1: 64, 2: 16, 4: 1, 8: 1}  # of the target
DISTILLATION = {"weight": 0.5, "temperature": 2.0}
# Label -> changed fields.
CHANGES = {
  "levels14": {"model_config.palette": (1, 4)},
  "levels24": {"model_config.palette": (2, 4)},
  "levels12": {"model_config.palette": (1, 2)},
  "granules": {
    "target": TARGET,
    "search.regularizers": ({"name": "granule", "weight": 0.01, "kwargs": {"granules": GRANULES}},),
  },
  "granules_late": {"target": TARGET},
  "attraction": {"search.regularizers": ({"name": "palette_attraction", "weight": 0.02},)},
  "weight_noise": {"search.mode": "weight_noise"},
  "distilled": {
    "search.distillation": DISTILLATION,
    "finetune.distillation": DISTILLATION,
  },
  "fixed_scales": {"search.scale_rate": 0.0, "finetune.scale_rate": 0.0},
  "decay": {"search.weight_decay": 1e-4, "finetune.weight_decay": 1e-4},
  "long_search": {"search.steps": 4 * STEPS_PER_EPOCH, "finetune.steps": 4 * STEPS_PER_EPOCH},
  "frozen": {"search.freeze_fraction": 0.4},
  "stale_norms": {"finetune.norm_batches": 0},
  "scaled_gradients": {"finetune.gradient_scaling": 0.2},
  "growing_noise": {"search.noise_ramp_fraction": 0.5},
  "cold_start": {"train.steps": 1, "search.steps": 6 * STEPS_PER_EPOCH - 1},
  "limit_at_once": {"budget.ramp_fraction": 0.0},
  "limit_late": {"budget.ramp_fraction": 0.8},
  "undamped": {"budget.damping": 0.0},
}


def get_config() -> ml_collections.ConfigDict:
  """The configuration; every field can be overridden by --config.FIELD=VALUE."""
  config = compare_fashion_mnist.get_config()
  for phase, epochs in (("train", 4), ("search", 2), ("finetune", 6)):
    config[phase].steps = epochs * STEPS_PER_EPOCH
  trials = (
    {"method": "float32"},
    {"method": "heterogeneous", "limit": LIMIT},
    {"method": "layerwise", "limit": LIMIT},
    {"method": "uniform"},
    *(
      {
        "method": "heterogeneous",
        "limit": LIMIT,
        "label": label,
        "options": tuple(options.items()),
      }
      for label, options in CHANGES.items()
    ),
  )
  config.trials = tuple(trial | {"seed": seed} for seed in (0, 1, 2) for trial in trials)
  return config
