"""Slim variables: nearly the same network, few bytes besides the codes."""

import flax
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax import models, runtime
from hetjax import nn as hnn
from hetjax.nn.packing import artifact_of, float_variables, variables_of
from hetjax.pack import (
  float32_bytes,
  float32_file_bytes,
  from_bytes,
  size_breakdown,
  to_bytes,
)
from tests.shared.nets import random_assignment, random_variables

CONFIG = {"stage_sizes": (1, 1), "widths": (6, 10)}


@pytest.fixture(scope="module")
def case():
  model = models.create("resnet", **CONFIG)
  images = jax.random.normal(jax.random.key(0), (4, 8, 8, 3))
  variables = random_variables(model, images, 0)
  specs = hnn.layer_specs(model, images)
  collection = hnn.packing.assignment_collection(random_assignment(specs), specs)
  return model, images, {**variables, "assignment": collection}, specs


def _artifact(model, variables, specs):
  return artifact_of(models.name_of(model), models.config_of(model), variables, specs)


def test_the_network_stays_what_it_was(case):
  model, images, variables, _ = case
  slim = hnn.slim(model, variables, images)
  before = model.apply(variables, images, mode="float")
  after = model.apply(slim, images, mode="float")
  scale = float(jnp.max(jnp.abs(before)))
  np.testing.assert_allclose(after, before, atol=5e-3 * scale)
  assert not np.array_equal(after, before)  # rounding did take place


def test_training_and_packed_bits_agree_on_slim_variables(case):
  model, images, variables, specs = case
  slim = hnn.slim(model, variables, images)
  artifact = from_bytes(to_bytes(_artifact(model, slim, specs)))
  packed = hnn.prepare(variables_of(artifact))
  trained = jax.jit(lambda v, x: model.apply(v, x, mode="quantized"))(slim, images)
  run = jax.jit(lambda v, x: model.apply(v, x, mode="packed"))(packed, images)
  np.testing.assert_array_equal(run, trained)


def test_fused_programs_agree_too_since_no_norm_is_left_to_fold(case):
  model, images, variables, specs = case
  norm = variables["params"]["stem_norm"]
  flipped = {**norm, "scale": -np.asarray(norm["scale"])}
  params = {**variables["params"], "stem_norm": flipped}
  slim = hnn.slim(model, {**variables, "params": params}, images)
  assert (slim["params"]["stem_norm"]["bias"] == 0).all()
  network = runtime.build(_artifact(model, slim, specs), images.shape[1:])
  x = jax.random.normal(jax.random.key(1), (300, *images.shape[1:]))
  trained = jax.jit(lambda v, x: model.apply(v, x, mode="quantized"))(slim, x)
  np.testing.assert_array_equal(network(x), trained)
  options = {"capture_intermediates": True, "mutable": ["intermediates"]}
  values = jax.jit(lambda v, x: model.apply(v, x, mode="quantized", **options)[1])(slim, x)
  stem = lambda name: values["intermediates"][name]["__call__"][0]
  np.testing.assert_array_equal(stem("stem_norm"), stem("stem_conv"))
  before = model.apply({**variables, "params": params}, x, mode="float")
  after = model.apply(slim, x, mode="float")
  np.testing.assert_allclose(after, before, atol=5e-3 * float(jnp.max(jnp.abs(before))))


class _Kept(linen.Module):
  """Norms that follow no layer alone: of an input, of a layer read twice, of a large epsilon."""

  @linen.compact
  def __call__(self, x, *, mode="float"):
    norm = lambda **options: linen.BatchNorm(use_running_average=True, **options)
    y = hnn.Dense(5, mode=mode)(norm()(x))
    y = y + norm()(y)
    return norm(epsilon=0.5)(hnn.Dense(3, mode=mode)(y))


def test_norms_that_follow_no_layer_alone_stay():
  model = _Kept()
  x = jax.random.normal(jax.random.key(0), (9, 4))
  variables = random_variables(model, x, 0)
  slim = hnn.slim(model, variables, x)
  for i in range(3):
    path = f"BatchNorm_{i}"
    assert (slim["batch_stats"][path]["mean"] == 0).all()
    assert (slim["params"][path]["bias"] != 0).any()
  assert "alpha" in slim["params"]["Dense_0"]
  np.testing.assert_allclose(model.apply(slim, x), model.apply(variables, x), atol=1e-2)


def test_a_gain_of_nothing_keeps_its_norm(case):
  model, images, variables, _ = case
  norm = variables["params"]["stem_norm"]
  scale = np.asarray(norm["scale"]).copy()
  scale[0] = 0
  params = {**variables["params"], "stem_norm": {**norm, "scale": scale}}
  slim = hnn.slim(model, {**variables, "params": params}, images)
  assert slim["params"]["stem_norm"]["scale"][0] == 0
  assert "bias" not in slim["params"]["stem_conv"]


def test_norms_take_no_bytes_and_scales_few(case):
  model, images, variables, specs = case
  before = size_breakdown(_artifact(model, variables, specs))
  after = size_breakdown(_artifact(model, hnn.slim(model, variables, images), specs))
  assert (after["codes"], after["bits"]) == (before["codes"], before["bits"])
  assert after["norms"] == 0
  # Alpha and bias of every layer, and beta, in half precision.
  assert after["scales"] == 2 * sum(2 * s.out_channels + 1 for s in specs.values())
  assert sum(after.values()) < sum(before.values())


def test_in_float32_it_is_counted_without_idle_norms(case):
  model, images, variables, specs = case
  slim = hnn.slim(model, variables, images)
  tree = float_variables(slim, specs)
  del tree["batch_stats"]
  flat = flax.traverse_util.flatten_dict(tree, sep="/")
  folded = {k: v for k, v in flat.items() if "norm" not in k}
  expected = float32_bytes(flax.traverse_util.unflatten_dict(folded, sep="/"))
  assert float32_file_bytes(_artifact(model, slim, specs)) == expected
  kept = _artifact(model, variables, specs)  # its norms do something
  assert float32_file_bytes(kept) == float32_bytes(float_variables(variables, specs))


@pytest.mark.parametrize("alphas", [[1e5, 1.0], [1e-6, 5e-4]])
def test_what_half_precision_cannot_hold_stays(case, alphas):
  model, images, variables, _ = case
  head = variables["params"]["head"]
  alpha = np.resize(np.float32(alphas), head["alpha"].shape)
  params = {**variables["params"], "head": {**head, "alpha": alpha}}
  slim = hnn.slim(model, {**variables, "params": params}, images)
  np.testing.assert_array_equal(slim["params"]["head"]["alpha"], alpha)


def test_factors_of_channels_that_hardly_count_are_rounded_and_stay_positive(case):
  model, images, variables, _ = case
  head = variables["params"]["head"]
  alpha = np.resize(np.float32([1.0, 1e-6, 1e-9]), head["alpha"].shape)
  params = {**variables["params"], "head": {**head, "alpha": alpha}}
  got = hnn.slim(model, {**variables, "params": params}, images)["params"]["head"]["alpha"]
  np.testing.assert_array_equal(got, got.astype(np.float16))
  assert (got > 0).all() and np.abs(got - alpha).max() <= 2.0**-24


def test_small_biases_do_not_keep_a_leaf_from_rounding(case):
  model, images, variables, _ = case
  head = variables["params"]["head"]
  params = {**variables["params"], "head": {**head, "bias": np.full(10, 1e-6, np.float32)}}
  bias = hnn.slim(model, {**variables, "params": params}, images)["params"]["head"]["bias"]
  assert (bias == bias.astype(np.float16)).all() and np.abs(bias - 1e-6).max() < 2.0**-24


def test_norms_without_scale_or_bias_are_left_alone():
  class Net(linen.Module):
    @linen.compact
    def __call__(self, x, *, mode="float"):
      x = linen.BatchNorm(use_running_average=True, use_scale=False, use_bias=False)(x)
      return hnn.Dense(3, mode=mode)(x)

  x = jax.random.normal(jax.random.key(0), (2, 4))
  variables = Net().init(jax.random.key(1), x)
  slim = hnn.slim(Net(), variables, x)
  for a, b in zip(
    *map(jax.tree.leaves, (slim["batch_stats"], variables["batch_stats"])), strict=True
  ):
    np.testing.assert_array_equal(a, b)


def test_networks_without_batch_norms_are_only_rounded():
  model = models.create("transformer", width=8, depth=1, heads=2, max_length=4)
  x = jax.random.normal(jax.random.key(0), (2, 4, 3))
  variables = random_variables(model, x, 0)
  slim = hnn.slim(model, variables, x)
  assert set(slim) == set(variables)
  for a, b in zip(
    jax.tree.leaves(slim["params"]), jax.tree.leaves(variables["params"]), strict=True
  ):
    np.testing.assert_allclose(a, b, rtol=1e-3)
