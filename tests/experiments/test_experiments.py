"""Configurations are data, and launchers produce the table that they promise."""

import json
import sys

import ml_collections
import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

from experiments import measure
from experiments.configs import (
  ablations,
  compare_fashion_mnist,
  compare_lenet,
  digits,
  fashion_mnist,
  fashion_mnist_mobilenet,
  fashion_mnist_resnet10,
  fashion_mnist_resnet20,
  fashion_mnist_vit,
  foldoc_language_model,
  latency_and_bytes,
)
from experiments.trial import FLOAT, QWIX, Trial, configured
from hetjax import models
from hetjax import nn as hnn
from hetjax.bench import Timing
from hetjax.core import Assignment
from hetjax.core.precision import mean_bits
from hetjax.hardware import load_target
from hetjax.learn.methods import METHODS, granules_of
from hetjax.learn.recipe import recipe_of
from hetjax.nn.packing import artifact_of, float_variables
from hetjax.pack import float32_bytes, float32_file_bytes, read_artifact, size_breakdown
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
    monkeypatch, "--config.search.steps=7", "--config.target=bits_only", "--config.seed=5"
  )
  recipe = recipe_of(config.to_dict())
  assert (recipe.search.steps, recipe.target, recipe.seed) == (7, load_target("bits_only"), 5)
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
  assert plain["file_bytes"] == float32_bytes(float_variables(trained, specs))
  assert float32_file_bytes(artifact) < plain["file_bytes"]  # norms folded
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


@pytest.mark.parametrize("module", [compare_fashion_mnist, compare_lenet], ids=lambda m: m.__name__)
def test_the_size_of_two_bits_everywhere_is_that_of_its_file(module):
  config = module.get_config().to_dict()
  model = models.create(config["model"], **config["model_config"])
  x = np.zeros((1, 28, 28, 1), np.float32)
  variables, specs = random_variables(model, x), hnn.layer_specs(model, x)
  levels = hnn.packing.assignment_collection(Assignment.uniform(specs, 2), specs)
  slim = hnn.slim(model, variables | {"assignment": levels}, x)
  artifact = artifact_of(models.name_of(model), models.config_of(model), slim, specs)
  assert sum(size_breakdown(artifact).values()) == module.UNIFORM_2_BYTES


@pytest.mark.parametrize(
  "module",
  [
    ablations,
    compare_fashion_mnist,
    compare_lenet,
    fashion_mnist_mobilenet,
    fashion_mnist_resnet10,
    fashion_mnist_resnet20,
    fashion_mnist_vit,
    foldoc_language_model,
    latency_and_bytes,
  ],
  ids=lambda m: m.__name__,
)
def test_every_trial_of_a_comparison_is_a_recipe_with_a_name_of_its_own(module):
  config = module.get_config().to_dict()
  splits, wanted = config.pop("splits"), [Trial(**dict(t)) for t in config.pop("trials")]
  assert splits == ("valid",)  # choices are not made on test data
  assert len({trial.name for trial in wanted}) == len(wanted)
  recipes = [recipe_of(configured(config, trial)) for trial in wanted]
  steps = {r.train.steps + r.search.steps + r.finetune.steps for r in recipes}
  assert len(steps) == 1
  for trial, recipe in zip(wanted, recipes, strict=True):
    assert trial.method in (FLOAT, QWIX, *METHODS)
    models.create(recipe.model, **recipe.model_config)
    json.dumps(configured(config, trial), default=str)


def test_ablations_change_what_their_labels_say():
  config = ablations.get_config().to_dict()
  wanted = {t["label"]: Trial(**dict(t)) for t in config.pop("trials") if "label" in dict(t)}
  del config["splits"]
  recipes = {label: recipe_of(configured(config, trial)) for label, trial in wanted.items()}
  assert recipes["weight_noise"].search.mode == "weight_noise"
  assert recipes["distilled"].finetune.distillation.weight == 0.5
  assert recipes["fixed_scales"].search.optimizer.scale_rate == 0
  assert recipes["undamped"].budget.damping == 0 < recipes["distilled"].budget.damping
  assert granules_of(recipes["granules"]) == ablations.GRANULES
  assert recipes["granules"].search.regularizers[0].name == "granule"
  assert recipes["frozen"].search.freeze_fraction == 0.4
  assert recipes["stale_norms"].finetune.norm_batches == 0
  assert recipes["scaled_gradients"].finetune.gradient_scaling == 0.2
  assert recipes["growing_noise"].search.noise_ramp_fraction == 0.5
  assert recipes["cold_start"].train.steps == 1
  assert recipes["decay"].finetune.optimizer.weight_decay == 1e-4
  assert recipes["long_search"].search.steps == recipes["long_search"].finetune.steps
  ramps = [recipes[k].budget.ramp_fraction for k in ("limit_at_once", "granules", "limit_late")]
  assert ramps == sorted(set(ramps)) and ramps[0] == 0


def test_one_of_two_networks_of_equal_bytes_is_charged_for_its_cycles():
  config = latency_and_bytes.get_config().to_dict()
  del config["splits"]
  _, lean, fast = (recipe_of(configured(config, Trial(**dict(t)))) for t in config.pop("trials"))
  assert lean.budget == fast.budget and lean.search.regularizers == ()
  (charge,) = fast.search.regularizers
  assert charge.name == "target_cycles"
  assert charge.kwargs["target"] == load_target(latency_and_bytes.MACHINE)
