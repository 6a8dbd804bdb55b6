"""Configurations are data, and launchers produce the table that they promise."""

import json
import sys

import ml_collections
import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

from experiments import measure
from experiments.configs import digits, fashion_mnist
from hetjax import models
from hetjax import nn as hnn
from hetjax.bench import Timing
from hetjax.core.precision import mean_bits
from hetjax.learn.recipe import recipe_of
from hetjax.pack import float32_file_bytes, read_artifact
from hetjax.report import render
from tests.shared import tiny, tiny_config
from tests.shared.nets import quantized_variables, random_assignment, random_variables

CONFIGS = {"digits": digits, "fashion_mnist": fashion_mnist, "tiny": tiny_config}


def _flagged(monkeypatch, *overrides):
  """A configuration as the launcher gets it from the command line."""
  arguments = ["train", f"--config={digits.__file__}", *overrides]
  monkeypatch.setattr(sys, "argv", arguments)  # where ml_collections looks for overrides
  values = flags.FlagValues()
  config_flags.DEFINE_config_file("config", None, lock_config=True, flag_values=values)
  values(arguments)
  return values.config


@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_is_a_recipe_of_a_known_model(name):
  config = CONFIGS[name].get_config()
  assert isinstance(config, ml_collections.ConfigDict)
  json.dumps(config.to_dict())
  recipe = recipe_of(config.to_dict())
  assert recipe.data == ("fashion_mnist" if name == "fashion_mnist" else "digits")
  models.create(recipe.model, **recipe.model_config)


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # ml_collections' own
def test_overrides_reach_the_recipe_and_unknown_fields_do_not(monkeypatch):
  config = _flagged(
    monkeypatch, "--config.search.steps=7", "--config.target=some", "--config.seed=5"
  )
  recipe = recipe_of(config.to_dict())
  assert (recipe.search.steps, recipe.target, recipe.seed) == (7, "some", 5)
  assert config.is_locked
  with pytest.raises((AttributeError, KeyError), match="sead"):
    config.sead = 3
  with pytest.raises(Exception, match="sead"):
    _flagged(monkeypatch, "--config.sead=5")


def test_rows_describe_the_files_that_they_ran(tmp_path, monkeypatch):
  monkeypatch.setattr(
    measure, "interleaved",
    lambda functions, seconds: {n: Timing(i * 1e-6, 0, 0, 1) for i, n in enumerate(functions, 1)},
  )  # fmt: skip
  exp = tiny.shared()
  variables, specs = quantized_variables(exp.run.model, exp.run.example())
  trained = {k: v for k, v in variables.items() if k != "assignment"}
  plain, packed = measure.network_rows(exp, trained, {"two words": variables}, tmp_path / "new")
  path = tmp_path / "new" / "two-words.safetensors"
  artifact = read_artifact(path)
  assert packed["name"] == "two words" and packed["disagreements"] == 0
  assert packed["file_bytes"] == path.stat().st_size
  assert packed["mean_bits"] == pytest.approx(float(mean_bits(artifact.assignment.bits, specs)))
  assert packed["overhead_bytes"] == packed["file_bytes"] - packed["sizes"]["codes"]
  assert packed["compression"] == plain["file_bytes"] / packed["file_bytes"]
  assert plain["file_bytes"] == float32_file_bytes(artifact)
  assert plain["accuracy"] == exp.accuracy(exp.predict(trained, "float"))
  assert packed["accuracy"] == exp.accuracy(exp.predict(variables, "quantized"))
  latencies = (plain["latency_us"], packed["latency_us"], packed["latency_peer_us"])
  assert latencies == pytest.approx((1, 2, 1))
  text = render((plain, packed), measure.COLUMNS).splitlines()
  assert text[3].startswith("two words") and f"{packed['compression']:.2f}x" in text[3]


def test_the_mix_leaves_pinned_layers_out():
  model = models.create("resnet", stage_sizes=(1,), widths=(4,))
  images = np.zeros((1, 8, 8, 1), np.float32)
  specs = hnn.layer_specs(model, images)
  assignment = random_assignment(specs, 3)
  variables = random_variables(model, images)
  variables["assignment"] = hnn.packing.assignment_collection(assignment, specs)
  bits = np.concatenate([b for n, b in assignment.bits.items() if specs[n].pinned_bits is None])
  mix = measure.channel_mix(variables, specs)
  # All free layers have equally many weights per channel here.
  assert mix == {p: pytest.approx(np.mean(bits == p)) for p in np.unique(bits).tolist()}
