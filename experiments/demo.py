"""The whole thread on real images, in one command: `make demo`, or python -m experiments.demo.

Trains a float network; from it a uniform 4-bit, a uniform 2-bit and a heterogeneous network of the
same steps; packs each to a file; loads and runs the files on the test images; prints one table.
"""

from __future__ import annotations

import os
import time

from absl import app, flags

from experiments import launch, measure
from experiments.configs import digits, fashion_mnist
from hetjax.learn import methods
from hetjax.learn.recipe import Experiment, recipe_of
from hetjax.report import render, write_json

CONFIGS = {"digits": digits.get_config, "fashion_mnist": fashion_mnist.get_config}

_DATA = flags.DEFINE_enum("data", "digits", sorted(CONFIGS), "Images to learn.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of everything random.")
_JSON = flags.DEFINE_string("json", "demo/results.json", "Result file; artifacts go beside it.")


def broken_promises(rows: list[dict], data: str) -> list[str]:
  """What a demo's rows fail to keep, in words; empty if all is well.

  On any data packed files must classify like training; on digits the heterogeneous network must
  also lose at most one point at a mean of 2 bits or less, in an eighth of float32's bytes.
  """
  by_name = {row["name"]: row for row in rows}
  broken = [
    f"{name}: {row['disagreements']} test images classified unlike training"
    for name, row in by_name.items()
    if row.get("disagreements")
  ]
  if data != "digits":
    return broken
  network = by_name["heterogeneous"]
  loss = by_name["float32"]["accuracy"] - network["accuracy"]
  if loss > 1.0:
    broken.append(f"heterogeneous loses {loss:.2f} points against float32, more than 1.0")
  if network["mean_bits"] > 2.0:
    broken.append(f"heterogeneous has {network['mean_bits']:.3f} mean bits, more than 2.0")
  if network["compression"] < 8.0:
    broken.append(f"heterogeneous is compressed {network['compression']:.2f}x, less than 8x")
  return broken


def main(argv):
  launch.begin(argv)
  begun = time.monotonic()
  config = CONFIGS[_DATA.value]()
  config.seed = _SEED.value
  experiment = Experiment.create(recipe_of(config.to_dict()))
  trained = experiment.train_float()
  networks = {
    "uniform 4-bit": methods.train("uniform", experiment.with_limit(4.0), trained),
    "uniform 2-bit": methods.train("uniform", experiment.with_limit(2.0), trained),
    "heterogeneous": methods.train("heterogeneous", experiment, trained),
  }
  folder = os.path.dirname(os.path.abspath(_JSON.value))
  rows = measure.network_rows(experiment, trained, networks, folder)
  mix = measure.channel_mix(networks["heterogeneous"], experiment.run.specs)
  rows.append(measure.resnet18_row(mix, _SEED.value))
  images = len(experiment.dataset.test)
  print(f"\n{_DATA.value}, {images} test images, seed {_SEED.value}\n")
  print(render(rows, measure.COLUMNS))
  sizes = rows[3]["sizes"]
  print("\nheterogeneous file: " + ", ".join(f"{k} {v} bytes" for k, v in sizes.items()))
  shares = ", ".join(f"{p}-bit {100 * share:.0f} %" for p, share in mix.items())
  print(f"mix of its weights, first and last layer (8-bit) apart: {shares}")
  unlike = sum(row.get("disagreements", 0) for row in rows)
  print(f"test images that a packed file classifies unlike training: {unlike}")
  artifact = os.path.join(os.path.relpath(folder), "heterogeneous.safetensors")
  print(f"look inside: python -m hetjax inspect {artifact}")
  seconds = time.monotonic() - begun
  print(f"took {seconds:.0f} s")
  write_json(
    _JSON.value,
    rows,
    seed=_SEED.value,
    data=_DATA.value,
    config=config.to_dict(),
    mix={str(p): share for p, share in mix.items()},
    seconds=seconds,
  )
  broken = broken_promises(rows, _DATA.value)
  if broken:
    raise SystemExit("the demo broke a promise: " + "; ".join(broken))


if __name__ == "__main__":
  app.run(main)
