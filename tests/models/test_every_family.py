"""A tiny network of every family: all modes, packed equal to quantized, through a file and back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax import models
from hetjax.learn.calibrate import layer_inputs
from hetjax.nn.packing import artifact_of, variables_of
from hetjax.pack import read_artifact, write_artifact
from tests.shared.backends import parameters
from tests.shared.equality import assert_packed_equals_quantized
from tests.shared.families import TINY, tiny_case

every_network = pytest.mark.parametrize("name", TINY)


@every_network
def test_noise_and_rounding_disturb_the_float_network(name):
  case = tiny_case(name)
  precision = jax.eval_shape(case.model.init, jax.random.key(0), case.inputs)["precision"]
  s = jax.tree.map(lambda leaf: np.full(leaf.shape, -2.5, np.float32), precision)
  variables = {**case.variables, "precision": s}
  key = jax.random.key(1, impl="rbg")
  logits = {"quantized": case.expected[0]}
  for mode in ("float", "noise"):
    run = jax.jit(lambda v, x, m=mode: case.model.apply(v, x, mode=m, rngs={"noise": key}))
    logits[mode] = run(variables, case.inputs)
  for y in logits.values():
    wanted = (*case.inputs.shape, 11) if name == "language" else (len(case.inputs), 3)
    assert y.shape == wanted and y.dtype == jnp.float32 and np.isfinite(y).all()
  for mode in ("noise", "quantized"):
    assert np.max(np.abs(logits[mode] - logits["float"])) > 1e-3


@every_network
@pytest.mark.parametrize("backend", parameters())
def test_packed_equals_quantized(name, backend):
  assert_packed_equals_quantized(tiny_case(name), backend)


@every_network
def test_a_file_brings_back_model_and_variables(name, tmp_path):
  case = tiny_case(name)
  family, config = models.name_of(case.model), models.config_of(case.model)
  path = tmp_path / "network.safetensors"
  write_artifact(path, artifact_of(family, config, case.variables, case.specs))
  artifact = read_artifact(path)
  assert models.create(artifact.model_name, **artifact.model_config) == case.model
  assert artifact.specs == case.specs
  jax.tree.map(np.testing.assert_array_equal, variables_of(artifact), case.packed)


@every_network
def test_gradients_reach_every_parameter(name):
  """In quantized mode all but what a norm's or softmax's invariance makes useless: key biases."""
  case = tiny_case(name)
  held = {k: v for k, v in case.variables.items() if k != "params"}

  def loss(params):
    logits = case.model.apply({**held, "params": params}, case.inputs, mode="quantized")
    return jnp.sum(jnp.square(logits[..., 0]))

  gradients = jax.jit(jax.grad(loss))(case.variables["params"])
  for path, g in jax.tree_util.tree_flatten_with_path(gradients)[0]:
    where = [key.key for key in path]
    assert np.isfinite(g).all(), where
    assert where[-2:] == ["key", "bias"] or np.any(g != 0), where


@every_network
def test_a_layer_is_signed_where_its_input_can_be_negative(name):
  case = tiny_case(name)
  inputs = jax.jit(lambda v, x: layer_inputs(case.model, v, x, case.specs))
  for layer, x in inputs(case.variables, case.inputs).items():
    assert case.specs[layer].signed == bool(jnp.min(x) < 0), layer
