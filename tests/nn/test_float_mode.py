"""Float mode against flax.linen's layers with the same parameters."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax import nn as hnn
from hetjax.ops.convolution import shifted_depthwise

_CONVS = {
  "plain": {},
  "strided": {"strides": (2, 1)},
  "valid": {"padding": "VALID", "strides": 2},
  "same_lower": {"padding": "SAME_LOWER", "strides": 2},
  "one_int": {"padding": 2},
  "explicit": {"padding": ((0, 2), (1, 0)), "use_bias": False},
  "dilated": {"kernel_dilation": (2, 3)},
  "input_dilated": {"input_dilation": (2, 1), "padding": 1},
  "groups": {"feature_group_count": 3},
  "depthwise": {"feature_group_count": 6, "strides": 2},
  "multiplier": {"feature_group_count": 6, "features": 18, "kernel_dilation": 2},
  "half": {"dtype": jnp.bfloat16},
  "half_params": {"param_dtype": jnp.bfloat16},
}


def _random(shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def _assert_like_linen(ours, theirs, x):
  params = theirs.init(jax.random.key(1), x)["params"]
  if "bias" in params:
    params["bias"] = _random(params["bias"].shape).astype(params["bias"].dtype)
  expected = theirs.apply({"params": params}, x)
  ordinary = ours.apply({"params": params}, x)  # a checkpoint without alpha and beta
  ones = {"alpha": jnp.ones(params["kernel"].shape[-1]), "beta": jnp.float32(1)}
  ours_own = ours.apply({"params": {**params, **ones}}, x)
  tolerance = 2e-2 if expected.dtype == jnp.bfloat16 else 1e-5
  for got in (ordinary, ours_own):
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(
      got.astype(jnp.float32), expected.astype(jnp.float32), rtol=tolerance, atol=tolerance
    )
  alpha = jnp.linspace(0.5, 2, params["kernel"].shape[-1])
  scaled = ours.apply({"params": {**params, **ones, "alpha": alpha}}, x).astype(jnp.float32)
  bias = params.get("bias", jnp.zeros(1)).astype(jnp.float32)
  wanted = (expected.astype(jnp.float32) - bias) * alpha + bias
  np.testing.assert_allclose(scaled, wanted, rtol=5 * tolerance, atol=5 * tolerance)


@pytest.mark.parametrize("case", _CONVS)
def test_conv_is_linens(case):
  options = {"features": 6, **_CONVS[case]}
  features, x = options.pop("features"), _random((2, 7, 8, 6))
  if options.get("param_dtype"):
    x = x.astype(jnp.bfloat16)
  _assert_like_linen(hnn.Conv(features, (3, 2), **options), nn.Conv(features, (3, 2), **options), x)


@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"dtype": jnp.bfloat16}], ids=str)
@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5)], ids=str)
def test_dense_is_linens(options, shape):
  _assert_like_linen(hnn.Dense(4, **options), nn.Dense(4, **options), _random(shape))


def test_custom_contractions_and_precision_are_used():
  x = _random((2, 5, 5, 3))
  calls = []

  def conv(*args, **kwargs):
    calls.append(kwargs["precision"])
    return jax.lax.conv_general_dilated(*args, **kwargs)

  def dot(*args, **kwargs):
    calls.append(kwargs["precision"])
    return jax.lax.dot_general(*args, **kwargs)

  hnn.Conv(2, 3, conv_general_dilated=conv, precision="high").init_with_output(jax.random.key(0), x)
  hnn.Dense(2, dot_general=dot, precision="high").init_with_output(jax.random.key(0), x)
  assert calls == ["high", "high"]


@pytest.mark.parametrize(
  ("strides", "padding", "dilation", "multiplier"),
  [((1, 1), ((1, 1), (1, 1)), (1, 1), 1), ((2, 3), ((0, 2), (1, 0)), (1, 2), 2)],
)
def test_shifted_depthwise_is_the_grouped_convolution(strides, padding, dilation, multiplier):
  x, kernel = _random((2, 9, 8, 5)), _random((3, 2, 1, 5 * multiplier), 1)

  def grouped(x, kernel):
    return jax.lax.conv_general_dilated(
      x,
      kernel,
      strides,
      padding,
      rhs_dilation=dilation,
      dimension_numbers=("NHWC", "HWIO", "NHWC"),
      feature_group_count=5,
    )

  def shifted(x, kernel):
    return shifted_depthwise(x, kernel, strides, padding, dilation)

  expected, pull = jax.vjp(grouped, x, kernel)
  got, shifted_pull = jax.vjp(shifted, x, kernel)
  np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
  g = _random(expected.shape, 2)
  for ours, theirs in zip(shifted_pull(g), pull(g), strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_depthwise_layers_take_the_shifted_form_on_cpu():
  x = _random((1, 6, 6, 4))
  layer = hnn.Conv(4, 3, feature_group_count=4)
  params = layer.init(jax.random.key(0), x)
  assert "conv_general_dilated" not in str(jax.make_jaxpr(layer.apply)(params, x))
