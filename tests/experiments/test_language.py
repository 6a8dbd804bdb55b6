"""A language model through all phases: packed as it trained, and scored by perplexity."""

import math

import pytest

from experiments import compare, trials
from experiments.configs import foldoc_language_model
from hetjax.report import render


@pytest.fixture(scope="module")
def row(tmp_path_factory):
  folder = tmp_path_factory.mktemp("language")
  config = foldoc_language_model.get_config()
  config.data, config.batch_size = "synthetic_text", 32
  config.data_options.context = 8
  config.model_config.update({"width": 16, "depth": 1, "heads": 2})
  for phase, steps in (("train", 150), ("search", 2), ("finetune", 100)):
    config[phase].steps, config[phase].warmup_steps = steps, 1
  config.train.learning_rate = config.finetune.learning_rate = 1e-2
  config = config.to_dict()
  splits, _ = config.pop("splits"), config.pop("trials")
  trial = trials.Trial("heterogeneous", limit=3.5)
  assert trials.run_all(config, [trial], folder, folder, splits) == []
  return trials.result(config, trial, folder)


def test_perplexity_falls_far_below_that_of_a_guess(row):
  assert row["perplexity"]["valid"] == pytest.approx(math.exp(row["loss"]["valid"]))
  # 96 characters, four of which may follow any one.
  assert 4 < row["perplexity"]["valid"] < 40


def test_the_packed_model_predicts_what_training_s_does(row):
  assert row["disagreements"] == 0 and row["mean_bits"] <= 3.5
  assert row["file_bytes"] < row["float_bytes"]


def test_the_table_shows_perplexity(row):
  row |= {f"perplexity_{s}": v for s, v in row["perplexity"].items()}
  text = render([row], compare.columns(["valid"], text=True))
  assert "valid perplexity" in text and f"{row['perplexity']['valid']:.4f}" in text
