"""What dense and convolution layers share: variables, scales and the modes of one definition.

| mode         | collections read              | computes                                         |
|--------------|-------------------------------|--------------------------------------------------|
| float        | params (alpha, beta optional) | `contract(x, alpha * kernel)`                    |
| noise        | params, precision, rng noise  | grid values plus `sigma(s) * U(-1, 1)`           |
| weight_noise | as noise                      | the same on weights; activations only clipped    |
| quantized    | params, assignment            | straight-through rounding, exact accumulators    |
| packed       | packed                        | `ops.quantize_pack`, then `ops.packed_*`         |

The kernel is kept in grid units in every mode: the weight is `alpha[n] * kernel[..., n]`, alpha
being ones until `learn.calibrate` fits it. So alpha acts on the layer's output only and its
gradient is that of a batch norm's gain; nothing is divided by it. Beta divides the activations and
is the scale of learned-step-size quantization (Esser et al., 2020), whose gradient factor
`1 / sqrt(elements * top)` keeps it in proportion to the weights' gradients.

A schedule of the noise modes may put `strength` beside `s`, a factor on the noise
(`learn.gradients.ramped_strength`); it is no variable of the network.

A pinned layer has one level, no `precision` and no `assignment`; in the noise modes it rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from hetjax.core import Palette, quantize
from hetjax.core.layers import LayerSpec
from hetjax.core.noise import uniform_noise
from hetjax.core.precision import sigma_of_s
from hetjax.ops import exact, fake_quant, packed_conv, packed_matmul, quantize_pack
from hetjax.pack.weights import PackedWeights

NOISE_MODES = ("noise", "weight_noise")
MODES = ("float", *NOISE_MODES, "quantized", "packed")
INITIAL_S = -2.5  # bits(-2.5) = 4.7: the search starts above the default palette's highest level


@jax.custom_vjp
def scale_gradient(x: Float[Array, ""], factor: Float[Array, ""]) -> Float[Array, ""]:
  """Identity whose gradient is multiplied by `factor`."""
  del factor
  return x


scale_gradient.defvjp(lambda x, f: (x, f), lambda f, g: (g * f, None))


class QuantizedLayer(nn.Module, kw_only=True):
  """Base of the layers whose input channels have precisions.

  Attributes:
    palette: Levels its channels may be given.
    signed: Whether its input takes negative values (false after a ReLU).
    pinned_bits: One fixed level for all channels, or None to learn them.
    mode: One of `MODES`.
    implementation: Which implementation runs the packed ops; None picks the best.
  """

  palette: Palette = Palette()
  signed: bool = False
  pinned_bits: int | None = None
  mode: str = "float"
  implementation: str | None = None

  @property
  def effective_palette(self) -> Palette:
    """The palette, or the single pinned level."""
    return self.palette if self.pinned_bits is None else Palette((self.pinned_bits,))

  def layer_spec(self, x: Sequence[int], y: Sequence[int]) -> LayerSpec:
    """Static description given input and output shapes (batch first, channels last)."""
    raise NotImplementedError  # every subclass knows its kernel

  @property
  def name_in_tree(self) -> str:
    """The layer's "/"-joined path in the variables."""
    return "/".join(self.path)

  def read(self, collection: str, name: str, mode: str) -> Array:
    """A variable that `mode` needs, or an error that says what is missing."""
    if not self.has_variable(collection, name):
      raise ValueError(
        f"mode {mode!r} of layer {self.name_in_tree!r} needs {collection}/{self.name_in_tree}/"
        f"{name}, which the variables do not hold"
      )
    return self.get_variable(collection, name)

  def check_mode(self) -> None:
    """Refuses an unknown mode, and initialization in packed mode."""
    if self.mode not in MODES:
      raise ValueError(f"mode must be one of {MODES}, got {self.mode!r}")
    if self.mode == "packed" and self.is_initializing():
      raise ValueError("packed mode has no parameters to initialize; init in mode 'float'")

  def execute(
    self,
    x: Float[Array, "... c"],
    *,
    spec: LayerSpec,
    kernel_shape: tuple[int, ...],
    kernel_init: Callable,
    bias_init: Callable | None,
    param_dtype: jnp.dtype,
    contract: Callable[[Array, Array], Array],
  ) -> Float[Array, "... n"]:
    """Runs the float, noise or quantized mode. Called once, inside `nn.compact`."""
    channels, features = spec.in_channels, spec.out_channels
    kernel = self.param("kernel", kernel_init, kernel_shape, param_dtype)
    if bias_init:
      bias = self.param("bias", bias_init, (features,), param_dtype)
    else:  # one that `slim` folded a norm into
      bias = self.get_variable("params", "bias")
    if (
      self.mode == "float"
      and not self.is_initializing()
      and not self.has_variable("params", "alpha")
    ):  # an ordinary float checkpoint
      return _plus(contract(x, kernel), bias)
    alpha = self.param("alpha", nn.initializers.ones_init(), (features,), jnp.float32)
    beta = self.param("beta", nn.initializers.ones_init(), (), jnp.float32)
    if self.pinned_bits is None and self.is_initializing():
      self.variable("precision", "s", lambda: jnp.full((channels,), INITIAL_S, jnp.float32))
    if self.mode == "float":
      self.sow("intermediates", "input", x)
      return _plus(contract(x, (kernel * alpha).astype(kernel.dtype)), bias)
    x, kernel = x.astype(jnp.float32), kernel.astype(jnp.float32)
    if self.mode in NOISE_MODES and self.pinned_bits is None:
      return self._noisy(x, kernel, alpha, beta, bias, spec, contract)
    bits = self._assigned_bits(channels)
    return self._rounded(x, kernel, alpha, beta, bias, bits, spec, contract)

  def _assigned_bits(self, channels: int) -> Int[Array, " c"]:
    if self.pinned_bits is not None:
      return np.full(channels, self.pinned_bits, np.int32)
    bits = self.read("assignment", "bits", "quantized")
    if bits.shape != (channels,):
      raise ValueError(
        f"assignment/{self.name_in_tree}/bits must have shape ({channels},), got {bits.shape}"
      )
    return bits.astype(jnp.int32)

  def _activation_scale(self, x: Array, beta: Array, sigma: Array) -> Array:
    top = jnp.mean(quantize.grid_top(sigma, self.signed) / sigma)
    return scale_gradient(beta, jax.lax.rsqrt(x.size * top))

  def _noisy(self, x, kernel, alpha, beta, bias, spec, contract):
    sigma = sigma_of_s(self.read("precision", "s", self.mode))
    beta = self._activation_scale(x, beta, jax.lax.stop_gradient(sigma))
    a_key, w_key = jax.random.split(self.make_rng("noise"))
    a_noise = uniform_noise(a_key, x.shape) if self.mode == "noise" else jnp.zeros_like(x)
    w_noise = uniform_noise(w_key, kernel.shape)
    if self.has_variable("precision", "strength"):  # a schedule's, otherwise noise is full
      strength = self.get_variable("precision", "strength")
      a_noise, w_noise = a_noise * strength, w_noise * strength
    a = fake_quant.noisy(x, 1.0 / beta, sigma, a_noise, signed=self.signed)
    w = quantize.inject_noise(kernel, per_weight(sigma, spec), w_noise, signed=True)
    # On the weights, scales cost no passes over the outputs, forward or backward.
    y = contract(a, w * (alpha * beta))
    return y if bias is None else y + bias

  def _rounded(self, x, kernel, alpha, beta, bias, bits, spec, contract):
    pmax = spec.palette.pmax
    beta = self._activation_scale(x, beta, quantize.sigma_of_bits(bits))
    finest = 2.0 ** (pmax - 1)
    a = fake_quant.rounded(
      x,
      1.0 / beta,
      jnp.asarray(bits),
      signed=self.signed,
      factor=finest if self.signed else finest / 2,
    )
    w = quantize.straight_through(kernel, per_weight(bits, spec), True, True)
    scale = alpha * beta * spec.palette.unit(self.signed)
    y, t = exact.scaled_accumulator(
      contract,
      a,
      w * finest,
      scale,
      jnp.zeros_like(scale) if bias is None else bias.astype(jnp.float32),
      a_max=exact.level_limit(pmax, signed=self.signed),
      w_max=exact.level_limit(pmax, signed=True),
    )
    self.sow("intermediates", "accumulator", t)
    return y

  def execute_packed(self, x: Float[Array, "... c"], spec: LayerSpec, **geometry) -> Array:
    """Runs packed mode through `hetjax.ops`; `geometry` is that of `packed_conv`."""
    read = lambda name: self.read("packed", name, "packed")
    weights, scale, bias = read("weights"), read("scale"), read("bias")
    check_packed(weights, spec)
    a = quantize_pack(
      x.astype(jnp.float32),
      read("inv_beta"),
      layout=weights.layout,
      signed=self.signed,
      implementation=self.implementation,
    )
    op = packed_matmul if spec.kind == "dense" else packed_conv
    common = {"signed": self.signed, "implementation": self.implementation, **geometry}
    if self.is_mutable_collection("intermediates"):
      self.sow("intermediates", "accumulator", op(a, weights, **common).astype(jnp.float32))
    return op(a, weights, scale, bias, **common)


def _plus(y: Array, bias: Array | None) -> Array:
  """Adds a bias in the type of `y`, which is float mode's `dtype`."""
  return y if bias is None else y + bias.astype(y.dtype)


def per_weight(channel_values: Array, spec: LayerSpec) -> Array:
  """Values per input channel [c], broadcastable against a kernel [..., c // groups, n]."""
  if spec.groups == 1:
    return channel_values[:, None]
  grouped = channel_values.reshape(spec.groups, -1).T
  return jnp.repeat(grouped, spec.out_channels // spec.groups, axis=1)


def check_packed(weights: PackedWeights, spec: LayerSpec) -> None:
  """Refuses packed weights that were packed for another layer."""
  have = (weights.kernel_shape, weights.layout.groups, weights.layout.palette)
  want = (spec.kernel_shape, spec.groups, spec.palette)
  if have != want:
    raise ValueError(
      f"packed/{spec.name}/weights must have kernel shape, groups and palette {want}, got {have}"
    )
