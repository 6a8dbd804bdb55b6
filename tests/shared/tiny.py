"""Tiny experiments that the tests of training share."""

import functools

import jax
import numpy as np

from hetjax.learn.recipe import Experiment, recipe_of
from tests.shared import tiny_config
from tests.shared.nets import random_variables


def recipe(**changes):
  """The recipe of `tiny_config` with changed fields, e.g. `search__steps=3`."""
  config = tiny_config.get_config().to_dict()
  for field, value in changes.items():
    *path, last = field.split("__")
    functools.reduce(dict.__getitem__, path, config)[last] = value
  return recipe_of(config)


def experiment(workdir=None, **changes):
  """The experiment of `recipe`, on data that needs no file."""
  return Experiment.create(recipe(data="synthetic", **changes), workdir, quiet=True)


@functools.cache
def shared():
  """An experiment that keeps nothing on disk."""
  return experiment()


def start_variables(exp, seed=0):
  """Random variables with learned bits of the initial 4.7; quick, and never to be donated."""
  model, example = exp.run.model, exp.run.example()[:1]
  s = jax.eval_shape(model.init, jax.random.key(0), example)["precision"]
  precision = jax.tree.map(lambda leaf: np.full(leaf.shape, -2.5, np.float32), s)
  return {**random_variables(model, example, seed), "precision": precision}
