"""Qwix as a peer: its quantizer is in the network, and training goes through it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import qwix

from experiments import qwix_peer
from hetjax import models
from hetjax import nn as hnn
from hetjax.nn.packing import float_variables
from hetjax.pack import float32_bytes
from tests.shared import tiny
from tests.shared.families import tiny_case


def _variables(exp):
  start = tiny.start_variables(exp)
  return {k: start[k] for k in ("params", "batch_stats")}


@pytest.mark.parametrize("bits", [2, 4])
def test_convolutions_compute_what_qwix_s_integers_do(bits):
  exp = tiny.shared()
  variables, x = _variables(exp), exp.run.example()[:4]
  model = qwix_peer.quantized_model(exp.run.model, exp.run.specs, bits)
  run = lambda m: m.apply(
    variables, x, mode="float", capture_intermediates=True, mutable=["intermediates"]
  )[1]["intermediates"]["stage0_block0"]["conv1"]["__call__"][0]
  got, plain = run(model), run(exp.run.model)
  stem = model.apply(
    variables, x, mode="float", capture_intermediates=True, mutable=["intermediates"]
  )[1]["intermediates"]["stem_norm"]["__call__"][0]
  qtype = qwix_peer.QTYPES[bits]
  method = qwix_peer.ACTIVATION_METHODS[qtype]
  rounded = lambda v, axes, method: qwix.dequantize(
    qwix.quantize(v, qtype, channelwise_axes=axes, calibration_method=method)
  )
  kernel = rounded(variables["params"]["stage0_block0"]["conv1"]["kernel"], (3,), "absmax")
  want = jax.lax.conv_general_dilated(
    rounded(jax.nn.relu(stem), (0,), method), kernel, (1, 1), "SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )  # fmt: skip
  np.testing.assert_allclose(got, want, atol=1e-4)
  assert np.max(np.abs(got - plain)) > 1e-2


def test_first_and_last_layer_have_eight_bits():
  exp = tiny.shared()
  variables, x = _variables(exp), exp.run.example()[:4]
  model = qwix_peer.quantized_model(exp.run.model, exp.run.specs, 2)
  kept = model.apply(
    variables, x, mode="float", capture_intermediates=True, mutable=["intermediates"]
  )[1]["intermediates"]
  kernel = variables["params"]["stem_conv"]["kernel"]
  want = jax.lax.conv_general_dilated(
    x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  error = np.asarray(kept["stem_conv"]["__call__"][0] - want)
  assert 0 < np.abs(error).max() < 0.05 * np.abs(want).max()


def test_training_moves_every_kernel_and_sizes_are_those_of_one_level():
  exp = tiny.experiment(search__steps=2, finetune__steps=2)
  trained = tiny.start_variables(exp)
  changed, variables = qwix_peer.train(exp, trained, 4)
  for layer in ("stem_conv", "head"):
    moved = variables["params"][layer]["kernel"] - trained["params"][layer]["kernel"]
    assert np.all(np.isfinite(moved)) and np.any(moved != 0)
  assert changed.logits(variables, "float", "valid").shape[-1] == 10
  sizes = {bits: qwix_peer.packed_bytes(exp, trained, bits) for bits in (2, 4)}
  free = sum(s.weights for s in exp.run.specs.values() if s.pinned_bits is None)
  assert sizes[4] - sizes[2] == pytest.approx(free * 2 / 8, rel=0.05)
  assert sizes[4] < float32_bytes(float_variables(trained, exp.run.specs))
  assert sizes[4] < qwix_peer.packed_bytes(exp, trained, 8)  # a level that no palette here has
  with pytest.raises(ValueError, match=r"bits must be one of \[2, 4, 8\], got 3"):
    qwix_peer.quantized_model(exp.run.model, exp.run.specs, 3)


def _int4(x, axis, method):
  whole = qwix.quantize(x, "int4", channelwise_axes=(axis,), calibration_method=method)
  return qwix.dequantize(whole)


def test_dense_layers_are_rounded_by_qwix():
  model = models.create("lenet_300_100", hidden=(5,))
  x = jax.random.normal(jax.random.key(0), (3, 4, 4, 1))
  variables = model.init(jax.random.key(1), x)
  options = {"mode": "float", "capture_intermediates": True, "mutable": ["intermediates"]}
  changed = qwix_peer.quantized_model(model, hnn.layer_specs(model, x), 4)
  got = changed.apply(variables, x, **options)[1]["intermediates"]["hidden0"]["__call__"][0]
  kernel = _int4(variables["params"]["hidden0"]["kernel"], 1, "absmax")
  want = _int4(x.reshape(3, -1), 0, "minmax") @ kernel
  np.testing.assert_allclose(got, want, atol=1e-5)


def test_products_of_activations_stay_float32():
  case = tiny_case("vit")
  model = qwix_peer.quantized_model(case.model, case.specs, 4)
  options = {"mode": "float", "capture_intermediates": True, "mutable": ["intermediates"]}
  values = model.apply(case.variables, case.inputs, **options)[1]["intermediates"]
  got = lambda name: values["block0"]["attention"][name]["__call__"][0]
  heads = lambda name: got(name).reshape(*got(name).shape[:-1], case.model.heads, -1)
  y = jax.nn.dot_product_attention(*map(heads, ("query", "key", "value")))
  params = case.variables["params"]["block0"]["attention"]["output"]
  kernel = _int4(params["kernel"] * params["alpha"], 1, "absmax")
  want = _int4(y.reshape(-1, kernel.shape[0]), 0, "minmax") @ kernel + params["bias"]
  np.testing.assert_allclose(got("output").reshape(want.shape), want, atol=1e-5)


def test_gradients_pass_straight_through():
  x = jnp.linspace(-1, 1, 7).reshape(1, 7)
  gradient = jax.grad(lambda v: jnp.sum(qwix_peer._rounded(v, "int2", (0,), "absmax")))(x)
  np.testing.assert_array_equal(gradient, np.ones((1, 7)))
