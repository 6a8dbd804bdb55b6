"""Distillation: the loss by hand, and a teacher in the step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax.learn.distillation import Distillation, distilled_loss, teacher_logits
from hetjax.learn.optimizer import OptimizerConfig
from hetjax.learn.step import initial_state, make_train_step
from hetjax.nn.packing import assignment_collection
from tests.shared import tiny
from tests.shared.nets import random_assignment

ASSIGNED = lambda exp: assignment_collection(random_assignment(exp.run.specs), exp.run.specs)


def test_loss_by_hand():
  rng = np.random.default_rng(0)
  student, teacher = rng.normal(size=(2, 5, 3))
  p = np.exp(teacher / 3) / np.exp(teacher / 3).sum(1, keepdims=True)
  q = np.exp(student / 3) / np.exp(student / 3).sum(1, keepdims=True)
  want = 0.25 * 2.0 + 0.75 * 9 * np.mean(np.sum(p * np.log(p / q), axis=1))
  got = distilled_loss(Distillation(0.75, 3.0), 2.0, jnp.asarray(student), jnp.asarray(teacher))
  assert float(got) == pytest.approx(want, rel=1e-5)
  same = distilled_loss(Distillation(1.0), 2.0, jnp.asarray(teacher), jnp.asarray(teacher))
  assert float(same) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("options, message", [
  ({"weight": 0.0}, r"weight must be in \(0, 1\], got 0.0"),
  ({"weight": 1.5}, r"weight must be in \(0, 1\], got 1.5"),
  ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
])  # fmt: skip
def test_settings_out_of_range_are_refused(options, message):
  with pytest.raises(ValueError, match=message):
    Distillation(**options)


def test_the_teacher_is_the_float_network_at_inference():
  exp = tiny.shared()
  variables = tiny.start_variables(exp)
  images = exp.run.example()
  readable = {k: variables[k] for k in ("params", "batch_stats")}
  want = exp.run.model.apply(readable, images, mode="float", train=False)
  np.testing.assert_allclose(teacher_logits(exp.run.model, variables, images), want, rtol=1e-4,
                             atol=1e-4)  # fmt: skip


def test_a_student_learns_what_only_its_teacher_knows():
  exp = tiny.shared()
  variables = tiny.start_variables(exp)
  config = dataclasses.replace(
    exp.recipe.train,
    distillation=Distillation(1.0),
    optimizer=OptimizerConfig(learning_rate=0.03, warmup_steps=1),
    steps=40,
  )
  batch = exp.run.batches.batch(0)
  batch = {**batch, "label": np.zeros_like(batch["label"])}
  step = make_train_step(exp.run.model, config, exp.run.specs, tiny.start_variables(exp, seed=5))
  state = jax.tree.map(jnp.array, initial_state(config, variables, exp.run.specs))
  losses = []
  for _ in range(40):
    state, logs = step(state, batch, jax.random.key(0))
    losses.append(float(logs["distilled_loss"]))
  assert losses[-1] < 0.7 * losses[0]


def test_a_phase_and_its_teacher_come_together():
  exp = tiny.shared()
  distilling = dataclasses.replace(exp.recipe.finetune, distillation=Distillation())
  with pytest.raises(ValueError, match="was not given a teacher"):
    make_train_step(exp.run.model, distilling, exp.run.specs)
  with pytest.raises(ValueError, match="was given a teacher"):
    make_train_step(exp.run.model, exp.recipe.train, exp.run.specs, {})
  start = lambda: {**tiny.start_variables(exp), "assignment": ASSIGNED(exp)}
  with pytest.raises(ValueError, match="'finetune' with distillation .* was not given a teacher"):
    exp.run.train(distilling, start)
