"""Methods at equal epochs on LeNet-5, whose hidden layer reads every place by a channel of its own.

The question is that of `compare_fashion_mnist`, of a network of few and unlike layers: most of its
products are in one, most weights in another, whose levels have to lie between two of the palette's.
Six sizes for the plot; three seeds at the size of two bits everywhere, also for networks of one and
four bits with as many bytes, and by multiply-accumulates.
Command: python -m experiments.compare --config experiments/configs/compare_lenet.py \
  --workdir runs/lenet
"""

import ml_collections

from experiments.configs import compare_fashion_mnist
from experiments.configs.compare_fashion_mnist import LEARNED

UNIFORM_2_BYTES, UNIFORM_2_MAC_BITS = 14_528, 3.858
SIZES = (10_500, 12_500, 17_500, 20_500, 24_000)
# Hidden layers with as many bytes at four bits, and at one bit, as the configured ones at two.
NARROW, WIDE = (68, 48), (192, 134)


def get_config() -> ml_collections.ConfigDict:
  """The configuration; every field can be overridden by --config.FIELD=VALUE."""
  config = compare_fashion_mnist.get_config()
  config.model = "lenet"
  config.model_config = ml_collections.ConfigDict(
    {"features": (6, 16), "hidden": (120, 84), "palette": (1, 2, 4)}
  )
  # Of LeNet-300-100 on validation images, one seed: better than the base's for float32 (by
  # cross-entropy), for learned and for uniform levels.
  config.train.learning_rate, config.finetune.learning_rate = 4e-3, 1e-2
  trial = lambda method, limit, **more: {"method": method, "limit": float(limit), **more}
  of_width = lambda method, limit, label, hidden: trial(
    method, limit, label=label, options=(("model_config.hidden", hidden),)
  )
  bytes_ = lambda method, size: trial(method, size, quantity="file_bytes")
  seeded = (
    {"method": "float32"},
    trial("uniform", 2),
    of_width("uniform", 4, "narrow", NARROW),
    of_width("uniform", 1, "wide", WIDE),
    trial("qwix", 2),
    of_width("qwix", 4, "narrow", NARROW),
    *(bytes_(method, UNIFORM_2_BYTES) for method in LEARNED),
    *(trial(method, UNIFORM_2_MAC_BITS, quantity="mean_bits_macs") for method in LEARNED),
  )
  once = (
    *(trial("uniform", bits) for bits in (1, 4)),
    *(trial("qwix", bits) for bits in (4, 8)),
    *(of_width(method, 2, "narrow", NARROW) for method in ("uniform", "qwix")),
    *(of_width(method, 2, "wide", WIDE) for method in ("uniform", "qwix")),
    *(bytes_(method, size) for size in SIZES for method in LEARNED),
  )
  config.trials = (*(t | {"seed": s} for s in (0, 1, 2) for t in seeded), *once)
  return config
