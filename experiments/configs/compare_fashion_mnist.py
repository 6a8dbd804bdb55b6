"""Methods at equal epochs on Fashion-MNIST: what learned, heterogeneous precisions are worth.

The question: does `heterogeneous` score above every other method at equal file size, and at equal
bits by multiply-accumulates? No committed result answers it yet. Six sizes for the plot, three
seeds at two of them and by multiply-accumulates. Choices are made on the validation images;
`splits` gets "test" for the final table alone. Results hold the seconds that each trial took.
Command: python -m experiments.compare --config experiments/configs/compare_fashion_mnist.py \
  --workdir runs/compare
"""

import ml_collections

from experiments.configs import fashion_mnist

STEPS_PER_EPOCH = 421
LEARNED = ("heterogeneous", "layerwise", "random", "weight_rms")
UNIFORM_2_BYTES = 24_220  # of the network with two bits everywhere
SEEDED = (17_500, UNIFORM_2_BYTES)
SIZES = (15_500, 20_000, 28_000, 34_000)
OTHER_WIDTHS = {"narrow": (12, 24, 48), "wide": (24, 48, 96)}


def _of_one_level(method: str, levels: tuple[int, ...]) -> tuple[dict, ...]:
  """Trials of a method that has no sizes between its levels but those of other widths."""
  trial = lambda bits, **more: {"method": method, "limit": float(bits), **more}
  widths = {label: (("model_config.widths", w),) for label, w in OTHER_WIDTHS.items()}
  return (
    *(trial(bits) for bits in levels),
    *(trial(b, label=label, options=o) for label, o in widths.items() for b in (2, 4)),
  )


def get_config() -> ml_collections.ConfigDict:
  """The configuration; every field can be overridden by --config.FIELD=VALUE."""
  config = fashion_mnist.get_config()
  config.model_config.widths = (16, 32, 64)
  config.batch_size = 128
  config.checkpoint_every = 2 * STEPS_PER_EPOCH
  for phase, epochs in (("train", 6), ("search", 3), ("finetune", 11)):
    config[phase].steps = epochs * STEPS_PER_EPOCH
  # Found on the validation images of ResNet-10: float32 in 12 epochs at 2e-3, 6e-3 and 1.5e-2,
  # finetuning in 12 at 5e-3 to 8e-2.
  config.train.learning_rate = 1e-2
  config.search.learning_rate = 6e-3
  config.search.precision_rate = 2e-2
  config.finetune.learning_rate = 4e-2
  config.finetune.scale_rate = 2e-3
  config.splits = ("valid",)
  bytes_ = lambda method, size: {"method": method, "quantity": "file_bytes", "limit": size}
  macs = lambda method: {"method": method, "quantity": "mean_bits_macs", "limit": 2.0}
  seeded = (
    {"method": "float32"},
    {"method": "uniform", "limit": 2.0},
    {"method": "qwix", "limit": 2.0},
    {"method": "qwix", "limit": 4.0},
    *(bytes_(method, size) for size in SEEDED for method in LEARNED),
    *(macs(method) for method in LEARNED),
  )
  once = (
    *_of_one_level("uniform", (1, 4)),
    *_of_one_level("qwix", (8,)),
    *(bytes_(method, size) for size in SIZES for method in LEARNED),
  )
  config.trials = (*(t | {"seed": s} for s in (0, 1, 2) for t in seeded), *once)
  return config
