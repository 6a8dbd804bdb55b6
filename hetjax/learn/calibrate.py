"""Initial scales: alpha from the weights, beta from the activations of the float network.

The rule: each scale minimises the expected squared error of what the layer will do to its tensor -
rounding at assigned bits, or clipping plus noise of variance `sigma^2 / 3` at learned ones - over a
fixed grid of candidates: alpha 37 multiples, 0.4 to 2.2, of the root mean square of an output
channel's weights; beta 40 geometric multiples, 0.15 to 3, of the activations' root mean square.
Activations are captured in float mode: fitting a beta on inputs that earlier layers have already
quantized costs several points of accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from hetjax.core import quantize
from hetjax.core.layers import LayerSpec, LayerSpecs
from hetjax.core.precision import get_path, set_path, sigma_of_s
from hetjax.nn.quantized import per_weight

Variables = Mapping[str, Any]
ALPHA_GRID = np.linspace(0.4, 2.2, 37, dtype=np.float32)
BETA_GRID = np.geomspace(0.15, 3.0, 40, dtype=np.float32)
_LEAST_SCALE = 1e-6  # of a tensor that is all zeros


def rounding_error(x: Array, bits: Array, signed: bool) -> Array:
  """Squared error of quantizing grid values x at integer bits, elementwise."""
  return jnp.square(quantize.straight_through(x, bits, signed) - x)


def noise_error(x: Array, sigma: Array, signed: bool, noise: Array | None = None) -> Array:
  """Expected squared error of clipping grid values x and adding noise, elementwise.

  Args:
    x: Values in grid units.
    sigma: Decides the grid's range.
    signed: Of the grid.
    noise: Half the noise's range; sigma if None.
  """
  noise = sigma if noise is None else noise
  top = quantize.grid_top(sigma, signed)
  if signed:
    return jnp.square(jnp.clip(x, -top, top) - x) + jnp.square(noise) / 3
  error = jnp.square(jnp.clip(x, 0, top) - x)
  return error + jnp.where(x > 0, jnp.square(noise) / 3, 0.0)


def fit_alpha(weights: Float[Array, "*k n"], error) -> Float[Array, " n"]:
  """Scale per output channel with the least `error(weights / alpha) * alpha^2` summed over k."""
  axes = tuple(range(weights.ndim - 1))
  spread = jnp.maximum(jnp.sqrt(jnp.mean(jnp.square(weights), axis=axes)), _LEAST_SCALE)

  def cost(multiple):
    alpha = spread * multiple
    return jnp.sum(error(weights / alpha), axis=axes) * jnp.square(alpha)

  costs = jax.lax.map(cost, jnp.asarray(ALPHA_GRID))
  return spread * jnp.asarray(ALPHA_GRID)[jnp.argmin(costs, axis=0)]


def fit_beta(x: Float[Array, "*b c"], error) -> Float[Array, ""]:
  """Scale of a layer's activations with the least `error(x / beta) * beta^2` summed."""
  rms = jnp.maximum(jnp.sqrt(jnp.mean(jnp.square(x))), _LEAST_SCALE)

  def cost(multiple):
    beta = rms * multiple
    return jnp.sum(error(x / beta)) * jnp.square(beta)

  costs = jax.lax.map(cost, jnp.asarray(BETA_GRID))
  return rms * jnp.asarray(BETA_GRID)[jnp.argmin(costs)]


def layer_inputs(
  model: nn.Module, variables: Variables, images: Float[Array, "b h w c"], specs: LayerSpecs
) -> dict[str, Array]:
  """Input of every quantized layer in float mode."""
  readable = {k: variables[k] for k in ("params", "batch_stats") if k in variables}
  _, captured = model.apply(readable, images, mode="float", mutable=["intermediates"])
  return {name: get_path(captured["intermediates"], name)["input"][0] for name in specs}


def _layer_scales(
  spec: LayerSpec, mode: str, params: Mapping, x: Array, bits, s
) -> dict[str, Array]:
  weights = params["kernel"] * params["alpha"]
  if bits is not None:
    w_error = lambda v: rounding_error(v, per_weight(bits, spec), True)
    a_error = lambda v: rounding_error(v, bits, spec.signed)
  else:
    sigma = sigma_of_s(s)
    w_error = lambda v: noise_error(v, per_weight(sigma, spec), True)
    a_noise = sigma if mode == "noise" else 0 * sigma
    a_error = lambda v: noise_error(v, sigma, spec.signed, a_noise)
  alpha = fit_alpha(weights, w_error)
  return {**params, "kernel": weights / alpha, "alpha": alpha, "beta": fit_beta(x, a_error)}


def calibrate(
  model: nn.Module,
  variables: Variables,
  images: Float[Array, "b h w c"],
  specs: LayerSpecs,
  *,
  mode: str = "noise",
) -> dict[str, Any]:
  """Fits every layer's alpha and beta; the float network computes what it did before.

  Args:
    model: The network.
    variables: `params`, any `batch_stats`, and `assignment` (scales for rounding) or else
      `precision` (scales for noise). With both, `assignment` decides.
    images: A batch of training images; 64 or more serve well.
    specs: The model's quantized layers.
    mode: The noise mode of a search to come; without an assignment only.

  Returns:
    `variables` with new kernels (in grid units), alpha and beta.
  """
  inputs = jax.jit(lambda v, x: layer_inputs(model, v, x, specs))(variables, images)
  params = variables["params"]
  fit = jax.jit(_layer_scales, static_argnums=(0, 1))
  for name, spec in specs.items():
    bits = s = None
    if spec.pinned_bits is not None:
      bits = jnp.full((spec.in_channels,), spec.pinned_bits, jnp.int32)
    elif "assignment" in variables:
      bits = jnp.asarray(get_path(variables["assignment"], name)["bits"], jnp.int32)
    else:
      s = get_path(variables["precision"], name)["s"]
    new = fit(spec, mode, get_path(params, name), inputs[name], bits, s)
    params = set_path(params, name, new)
  return {**variables, "params": params}
