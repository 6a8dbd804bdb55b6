"""What was trained is what runs: quantized and packed mode agree bit for bit, on every backend."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax import nn as hnn
from hetjax.core import Palette
from hetjax.learn import phases
from hetjax.learn.recipe import Experiment, recipe_of
from tests.shared import numpy_layer, tiny_config
from tests.shared.backends import backends, parameters
from tests.shared.equality import Case, assert_packed_equals_quantized
from tests.shared.nets import mixed, random_assignment

every_backend = pytest.mark.parametrize("backend", parameters())


def digits() -> Case:
  """A network trained on digits for a few seconds: better than chance by far, mixed levels."""
  config = tiny_config.get_config()
  config.model_config.update(widths=(10,))
  config.batch_size, config.log_every = 32, 100
  config.train.steps, config.finetune.steps = 150, 60
  config.train.learning_rate = config.finetune.learning_rate = 1e-2
  experiment = Experiment.create(recipe_of(config.to_dict()), quiet=True)
  run, trained = experiment.run, experiment.train_float()
  assignment = random_assignment(run.specs)
  variables = phases.finetune(run, experiment.recipe.finetune, trained, assignment).variables
  accuracy = experiment.accuracy(experiment.predict(variables, "quantized"))
  assert accuracy > 60, accuracy
  return Case(run.model, variables, run.specs, experiment.dataset.inputs("test"))


def test_a_trained_network_on_the_whole_test_set():
  case = digits()
  levels = [np.asarray(leaf) for leaf in jax.tree.leaves(case.variables["assignment"])]
  assert len(np.unique(np.concatenate(levels))) == 3
  assert len(case.inputs) > 250
  fast = [b for b in backends() if not b.is_slow]
  for backend in fast:  # in one test, so that parallel workers do not train it twice
    assert_packed_equals_quantized(case, backend)


@every_backend
def test_every_kind_of_layer(backend):
  model, images, variables, specs = mixed()
  assert_packed_equals_quantized(Case(model, variables, specs, images), backend)


@every_backend
@pytest.mark.parametrize("signed", [True, False])
def test_accumulators_beyond_the_integers_of_float32(signed, backend):
  rng = np.random.default_rng(5)
  channels, palette = 1500, (1, 4, 8)
  layer = hnn.Dense(3, palette=Palette(palette), signed=signed)
  params = {
    "kernel": np.float32(np.abs(rng.normal(size=(channels, 3)))),
    "bias": np.float32(rng.normal(size=3)),
    "alpha": np.float32([0.2, 0.3, 0.4]),
    "beta": np.float32(0.4),
  }
  bits = rng.choice(palette, channels, p=(0.1, 0.2, 0.7)).astype(np.int8)
  x = np.float32(np.abs(rng.normal(size=(4, channels))))
  variables = {"params": params, "assignment": {"bits": bits}}
  _, kept = layer.copy(mode="quantized").apply(variables, x, mutable=["intermediates"])
  exact = numpy_layer.accumulator(
    x[:, None, None], 0.4, params["kernel"][None, None], bits.astype(int), pmax=8, signed=signed,
    groups=1, strides=(1, 1), pads=((0, 0), (0, 0)), dilation=(1, 1),
  )[:, 0, 0]  # fmt: skip
  assert np.abs(exact).max() > 2**24 and np.any(exact != exact.astype(np.float32))
  np.testing.assert_array_equal(kept["intermediates"]["accumulator"][0], exact.astype(np.float32))
  spec = hnn.layer_specs(layer, jnp.asarray(x))[""]
  packed = hnn.packing.pack_layer(spec, bits, params)
  entry = hnn.packing.packed_collection_entry(packed)
  with backend.forced():
    run = layer.copy(mode="packed", implementation=backend.implementation)
    y, kept = run.apply({"packed": entry}, x, mutable=["intermediates"])
  np.testing.assert_array_equal(kept["intermediates"]["accumulator"][0], exact.astype(np.float32))
  trained = jax.jit(layer.copy(mode="quantized").apply)(variables, x)
  np.testing.assert_array_equal(y, trained)


def test_weights_that_could_overflow_are_refused():
  layer = hnn.Dense(1, palette=Palette((8,)), signed=True)
  channels = 34_000
  spec = hnn.layer_specs(layer, jnp.zeros((1, channels)))[""]
  params = {"kernel": np.full((channels, 1), 2.0), "alpha": np.ones(1), "beta": np.float32(1)}
  with pytest.raises(ValueError, match="accumulator must stay within"):
    hnn.packing.pack_layer(spec, np.full(channels, 8), params)
