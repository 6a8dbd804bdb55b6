"""The four modes of one definition: what they read, what they refuse, what they compute."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax import nn as hnn
from hetjax.core import Palette
from tests.shared import numpy_layer
from tests.shared.nets import mixed

_X = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 7, 4)), jnp.float32)


def _refused(layer, variables, match, x=_X, **kwargs):
  with pytest.raises(ValueError, match=match):
    layer.apply(variables, x, **kwargs)


def test_every_mode_runs_and_keeps_the_shape():
  model, x, variables, specs = mixed()
  s = jax.eval_shape(model.init, jax.random.key(0), x)["precision"]
  assert "stem" not in s and "head" not in variables["assignment"]
  variables = {**variables, "precision": jax.tree.map(lambda leaf: np.full(leaf.shape, -2.5), s)}
  packed = hnn.pack_variables(variables, specs)
  assert set(packed["packed"]) == set(specs)
  assert set(packed["params"]) == {"norm"}
  key = jax.random.key(1, impl="rbg")
  for mode in hnn.MODES:
    chosen = packed if mode == "packed" else variables
    run = jax.jit(lambda v, x, m=mode: model.apply(v, x, mode=m, rngs={"noise": key}))
    y = run(chosen, x)
    assert y.shape == (8, 7) and y.dtype == jnp.float32 and np.isfinite(y).all()


def test_what_a_mode_lacks_is_named():
  layer = hnn.Conv(3, 3, name="first")
  params = {"params": layer.init(jax.random.key(0), _X)["params"]}
  noise = {"rngs": {"noise": jax.random.key(0)}}
  _refused(layer.copy(mode="noise"), params, "'noise'.*precision/.*s, which", **noise)
  _refused(layer.copy(mode="quantized"), params, "'quantized'.*assignment/.*bits, which")
  _refused(layer.copy(mode="packed"), params, "'packed'.*packed/.*weights, which")
  model, x, variables, _ = mixed()
  params = {k: v for k, v in variables.items() if k != "assignment"}
  _refused(model, params, "assignment/grouped/bits", x, mode="quantized")


@pytest.mark.parametrize(
  ("options", "match"),
  [
    ({"mode": "exact"}, "mode must be one of.*'exact'"),
    ({"mode": "packed"}, "no parameters to initialize"),
    ({"mask": jnp.ones((3, 3, 4, 3))}, "mask must be None"),
    ({"feature_group_count": 3}, "feature_group_count.*got 3 for 4 channels and 3 features"),
    ({"feature_group_count": 4}, "feature_group_count.*got 4"),
    ({"feature_group_count": 0}, "feature_group_count.*got 0"),
    ({"padding": "CIRCULAR"}, "padding must be.*'CIRCULAR'"),
    ({"strides": 0}, "strides must be"),
    ({"pinned_bits": 3}, "levels must be among"),
  ],
)
def test_bad_options_are_refused(options, match):
  with pytest.raises(ValueError, match=match):
    hnn.Conv(3, 3, **options).init(jax.random.key(0), _X)


def test_an_image_without_batch_is_refused():
  with pytest.raises(ValueError, match=r"inputs must be \[batch, height.*\(6, 7, 4\)"):
    hnn.Conv(3, 3).init(jax.random.key(0), _X[0])


def test_an_assignment_of_another_length_is_refused():
  layer = hnn.Conv(3, 3, mode="quantized")
  params = hnn.Conv(3, 3).init(jax.random.key(0), _X)["params"]
  variables = {"params": params, "assignment": {"bits": np.full(5, 4, np.int8)}}
  _refused(layer, variables, r"bits must have shape \(4,\), got \(5,\)")


def test_packed_weights_of_another_layer_are_refused():
  model, x, variables, specs = mixed()
  packed = hnn.pack_variables(variables, specs)
  packed["packed"]["wide"] = packed["packed"]["hidden"]
  _refused(model, packed, "packed/wide/weights must have kernel shape", x, mode="packed")
  dilated = hnn.Conv(3, 3, input_dilation=2, mode="packed")
  _refused(dilated, {}, "input_dilation must be 1 in packed mode")


def test_packing_names_what_is_missing_or_wrong():
  _, _, variables, specs = mixed()
  missing = {k: v for k, v in variables["assignment"].items() if k != "wide"}
  with pytest.raises(KeyError, match="wide"):
    hnn.pack_variables({**variables, "assignment": missing}, specs)
  alien = {**variables["assignment"], "wide": {"bits": np.full(24, 4, np.int8)}}
  with pytest.raises(ValueError, match="'wide' must use levels"):
    hnn.pack_variables({**variables, "assignment": alien}, specs)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("palette", [(1, 2, 4), (2, 4, 8), (1,)], ids=str)
def test_accumulators_are_those_of_the_contract(palette, signed):
  rng = np.random.default_rng(len(palette) + signed)
  x = rng.normal(scale=1.5, size=(2, 5, 6, 6)).astype(np.float32)
  bits = rng.choice(palette, 6).astype(np.int8)
  window = {"strides": (2, 1), "dilation": (1, 2), "pads": ((1, 0), (2, 1))}
  common = {"palette": Palette(palette), "signed": signed, "feature_group_count": 2}
  layer = hnn.Conv(
    4, (3, 2), (2, 1), window["pads"], kernel_dilation=(1, 2), mode="quantized", **common
  )
  params = {
    "kernel": rng.normal(size=(3, 2, 3, 4)).astype(np.float32),
    "bias": rng.normal(size=4).astype(np.float32),
    "alpha": rng.uniform(0.1, 2, 4).astype(np.float32),
    "beta": np.float32(0.7),
  }
  variables = {"params": params, "assignment": {"bits": bits}}
  y, kept = layer.apply(variables, x, mutable=["intermediates"])
  pmax = max(palette)
  expected = numpy_layer.accumulator(
    x, 0.7, params["kernel"], bits.astype(int), pmax=pmax, signed=signed, groups=2, **window
  )
  np.testing.assert_array_equal(kept["intermediates"]["accumulator"][0], expected)
  unit = 4.0 ** (1 - pmax) * (1 if signed else 2)
  scaled = expected * params["alpha"] * params["beta"] * unit + params["bias"]
  np.testing.assert_allclose(y, scaled, rtol=1e-5, atol=1e-5)


def test_training_and_inference_code_share_no_state_between_modes():
  layer = hnn.Dense(3, signed=True, mode="quantized", pinned_bits=4)
  x = _X[0, 0]
  variables = hnn.Dense(3, signed=True, pinned_bits=4).init(jax.random.key(0), x)
  assert set(variables) == {"params"}
  rounded = layer.apply(variables, x)
  noisy = layer.copy(mode="noise").apply(variables, x)  # a pinned layer rounds, and needs no key
  np.testing.assert_array_equal(rounded, noisy)
