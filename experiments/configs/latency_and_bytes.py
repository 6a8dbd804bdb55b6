"""Two networks of equal bytes, one of them trained to be fast as well: is it, when it runs packed?

ResNet-8 at full resolution: its first stage makes most of the products and holds few of the
weights, so bytes and time ask for different bits. Both trials keep one budget of bytes; the search
of the second is also charged for its cycles on a measured machine. No committed result answers the
question yet. Choices are made on validation images; `splits` gets "test" for the final table alone.
Commands: python -m experiments.compare --config experiments/configs/latency_and_bytes.py \
  --workdir runs/latency_and_bytes
python -m experiments.latency --config experiments/configs/latency_and_bytes.py \
  --workdir runs/latency_and_bytes
"""

import ml_collections

from experiments.configs import compare_fashion_mnist

MACHINE = "cpu_avx2_zen3"
BYTES = compare_fashion_mnist.UNIFORM_2_BYTES
# Weight 1: a bit more for every channel costs about 0.1.
CYCLES = {"name": "target_cycles", "weight": 1.0, "kwargs": {"target": MACHINE}}


def get_config() -> ml_collections.ConfigDict:
  """The configuration; every field can be overridden by --config.FIELD=VALUE."""
  config = compare_fashion_mnist.get_config()
  config.model_config.stem = "cifar"
  within = {"method": "heterogeneous", "quantity": "file_bytes", "limit": BYTES}
  config.trials = (
    {"method": "float32"},
    within,
    within | {"label": "cycles", "options": (("search.regularizers", (CYCLES,)),)},
  )
  return config
