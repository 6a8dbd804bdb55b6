"""Random networks for benchmarks: levels in the shares asked for, values of a sane size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax import models
from hetjax import nn as hnn
from hetjax.nn.packing import assignment_of
from tests.shared.families import TINY

_MIX = {1: 0.6, 2: 0.3, 4: 0.1}
_IMAGE = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)


def test_levels_come_in_the_shares_of_the_mix():
  model = models.create("resnet8", widths=(20, 30, 50))
  specs = hnn.layer_specs(model, _IMAGE)
  bits = assignment_of(models.random_variables(model, _IMAGE, _MIX), specs).bits
  for name, spec in specs.items():
    if spec.pinned_bits is None:
      counts = np.bincount(bits[name], minlength=5)[[1, 2, 4]] / spec.in_channels
      np.testing.assert_allclose(counts, [0.6, 0.3, 0.1], atol=1e-9)
      assert np.any(np.diff(bits[name]) < 0) and np.any(np.diff(bits[name]) > 0)  # not in blocks
  assert set(bits["stem_conv"]) == set(bits["head"]) == {8}


def test_a_seed_names_one_network():
  model = TINY["mobilenet_v2"].create()
  make = lambda seed: models.random_packed_variables(model, _IMAGE, _MIX, seed)
  first, same, other = make(1), make(1), make(2)
  jax.tree.map(np.testing.assert_array_equal, first, same)
  stem = lambda variables: variables["packed"]["stem_conv"]["weights"].codes
  assert np.any(stem(first) != stem(other))


def test_values_neither_vanish_nor_explode_on_their_way():
  model = models.create("resnet14")
  images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
  variables = models.random_packed_variables(model, images, _MIX)
  run = jax.jit(lambda v, x: model.apply(v, x, mode="packed", mutable=["intermediates"]))
  logits, kept = run(variables, images)
  assert 1e-2 < np.std(logits) < 1e2
  for t in jax.tree.leaves(kept):
    assert np.std(t) > 0


@pytest.mark.parametrize("mix", [{1: 0.5, 2: 0.4}, {1: 1.5, 2: -0.5}, {}])
def test_shares_that_are_none_are_refused(mix):
  with pytest.raises(ValueError, match="mix must hold shares"):
    models.random_variables(models.create("resnet8"), _IMAGE, mix)


def test_levels_outside_the_palette_are_refused():
  with pytest.raises(ValueError, match=r"must use levels \(1, 2, 4\), got \[8\]"):
    models.random_variables(models.create("resnet8"), _IMAGE, {8: 1.0})
