"""A budget of bytes is one of the whole file, as it comes out after training."""

import pytest

from hetjax import models
from hetjax import nn as hnn
from hetjax.learn import methods
from hetjax.learn.overhead import measured, overhead_bytes
from hetjax.nn.packing import artifact_of
from hetjax.pack import write_artifact
from tests.shared import tiny

LIMIT = 3000


@pytest.fixture(scope="module")
def exp():
  budget = {"quantity": "file_bytes", "limit": LIMIT}
  steps = {f"{phase}__steps": 3 for phase in ("train", "search", "finetune")}
  return tiny.experiment(budget=budget, model_config__widths=(16,), **steps)


def test_a_trained_network_s_file_is_within_its_limit(exp, tmp_path):
  variables = methods.train("heterogeneous", exp, exp.train_float())
  slim = hnn.slim(exp.run.model, variables, exp.run.example()[:1])
  name, config = models.name_of(exp.run.model), models.config_of(exp.run.model)
  size = write_artifact(tmp_path / "net", artifact_of(name, config, slim, exp.run.specs))
  assert 0.97 * LIMIT < size <= 1.01 * LIMIT


def test_the_overhead_is_measured_once_and_for_bytes_only(exp):
  trained = tiny.start_variables(exp)
  known = measured(exp, trained)
  assert known.recipe.budget.overhead_bytes == overhead_bytes(exp, trained) > 0
  assert known.recipe.search.budget == known.recipe.budget
  assert measured(known, {}) is known
  mean = tiny.shared()
  assert measured(mean, {}) is mean


def test_a_budget_that_nothing_can_keep_is_refused_before_the_search(exp):
  with pytest.raises(ValueError, match=r"budget limit must be at least (\d+), the least") as error:
    methods.train("heterogeneous", exp.with_limit(400), tiny.start_variables(exp))
  least = int(str(error.value).split("at least ")[1].split(",")[0])
  assert 400 < least < LIMIT
