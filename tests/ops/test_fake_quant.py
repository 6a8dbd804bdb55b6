"""Training's quantizers: values and gradients are those of core.quantize, whoever computes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax import xla_cpu
from hetjax.core import quantize
from hetjax.ops import fake_quant
from hetjax.xla_cpu.float_quantizer import quantizer_gradient

ENGINE = "hetjax_float_quantizer"
needs_engine = pytest.mark.skipif(not xla_cpu.available()[0], reason="no engine here")
SHAPES = [(3, 5, 4, 24), (7, 1), (2, 43), (0, 5), (70_000, 3)]
INV_SCALE = np.float32(2)  # scales nothing off the grids' edges


def _operands(shape):
  rng = np.random.default_rng(0)
  x = rng.normal(size=shape)
  bits = rng.choice([1, 2, 4, 8], shape[-1]).astype(np.int32)
  rows = x.reshape(-1, shape[-1])
  if rows.shape[0] > 6:
    top = 2 - 2.0 ** (1 - bits)
    # On the edges of both grids, far beyond, zeros and subnormals.
    rows[:7] = [top / 2, -top / 2, top, 1e9 * top, 0 * top, 1e-40 * top, -1e-40 * top]
  draw = lambda: jnp.asarray(rng.normal(size=shape), jnp.float32)
  noise = jnp.asarray(rng.uniform(-1, 1, shape), jnp.float32)
  return jnp.asarray(x, jnp.float32), jnp.asarray(bits), noise, draw()


def _functions(kind, signed, bits, noise):
  """Ours and that of core, of (x, inv_scale, sigma)."""
  if kind == "rounded":
    ours = lambda x, inv, sigma: fake_quant.rounded(x, inv, bits, signed=signed, factor=8.0)
    core = lambda x, inv, sigma: (
      8.0 * quantize.straight_through(quantize.to_grid(x, inv), bits, signed)
    )
  else:
    ours = lambda x, inv, sigma: fake_quant.noisy(x, inv, sigma, noise, signed=signed)
    core = lambda x, inv, sigma: quantize.inject_noise(
      quantize.to_grid(x, inv), sigma, noise, signed=signed
    )
  return ours, core


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("kind", ["rounded", "noisy"])
def test_values_and_gradients_are_those_of_core(kind, signed, shape):
  x, bits, noise, g = _operands(shape)
  sigma = quantize.sigma_of_bits(bits)
  ours, core = _functions(kind, signed, bits, noise)
  operands = (x, jnp.float32(INV_SCALE), sigma)
  got, pull_back = jax.vjp(ours, *operands)
  want, pull_back_core = jax.vjp(core, *operands)
  np.testing.assert_array_equal(got, want)
  np.testing.assert_array_equal(ours(*operands), want)
  (dx, *sums), (dx_core, *sums_core) = pull_back(g), pull_back_core(g)
  np.testing.assert_array_equal(dx, dx_core)
  size = max(1.0, float(np.sqrt(max(1, x.size / x.shape[-1]))))
  for name, ours_, core_ in zip(("scale", "sigma"), sums, sums_core, strict=True):
    np.testing.assert_allclose(ours_, core_, rtol=2e-4, atol=1e-4 * size, err_msg=name)


@pytest.mark.parametrize("kind", ["rounded", "noisy"])
def test_second_derivatives_and_batches_are_those_of_core(kind):
  x, bits, noise, g = _operands((6, 5))
  ours, core = _functions(kind, True, bits, noise)
  operands = (jnp.float32(INV_SCALE), jnp.full((5,), 0.3))

  def second(function, x):
    first = jax.grad(lambda *a: jnp.sum(jnp.sin(function(x, *a)) * g), (0, 1))
    return jax.grad(lambda *a: sum(jnp.sum(jnp.square(o)) for o in first(*a)), (0, 1))(*operands)

  def first(function):
    return jax.grad(lambda x: jnp.sum(jnp.sin(function(x, *operands)) * g))

  got, want = second(ours, x), second(core, x)
  if kind == "noisy":  # what the noise was, the second derivative does not know
    got, want = got[:1], want[:1]
  for one, other in zip(got, want, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
  images = jnp.stack([x, -x, 2 * x])
  for image, got in zip(images, jax.vmap(first(ours))(images), strict=True):
    np.testing.assert_allclose(got, first(core)(image), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["rounded", "noisy"])
def test_nan_is_not_lost(kind):
  x, bits, noise, g = _operands((7, 4))
  x = x.at[3, 2].set(jnp.nan)
  ours, core = _functions(kind, True, bits, noise)
  operands = (x, jnp.float32(INV_SCALE), jnp.full((4,), 0.3))
  got, want = jax.vjp(ours, *operands)[1](g), jax.vjp(core, *operands)[1](g)
  np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
  assert np.isnan(got[1]) and np.isnan(want[1])
  np.testing.assert_array_equal(np.isnan(got[2]), np.isnan(want[2]))


@needs_engine
@pytest.mark.parametrize("signed", [True, False])
def test_the_engine_is_given_differentiated_calls_only(signed):
  x, bits, noise, _ = _operands((4, 6))
  sigma = jnp.full((6,), 0.3)
  for kind in ("rounded", "noisy"):
    ours, _ = _functions(kind, signed, bits, noise)
    operands = (x, jnp.float32(1.0), sigma)
    assert ENGINE not in str(jax.make_jaxpr(ours)(*operands))
    gradient = jax.grad(lambda *a, ours=ours: jnp.sum(ours(*a)), (0, 1, 2))
    assert str(jax.make_jaxpr(gradient)(*operands)).count(ENGINE) == 1


@needs_engine
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("is_rounded", [True, False])
def test_second_derivatives_are_those_of_the_plain_gradient(signed, is_rounded):
  x, _, noise, g = _operands((6, 5))
  sigma = jnp.full((5,), 0.3)
  y = None if is_rounded else x + noise

  def loss(gradient, g, inv, sigma):
    outputs = gradient(g, x, inv, sigma, signed=signed, values=y, factor=0.5)
    return sum(jnp.sum(jnp.sin(o)) for o in outputs)

  def fast(g, x, inv, sigma, *, signed, values, factor):
    return fake_quant._engine_gradient(signed, is_rounded, factor)(
      g, x, inv, sigma, x if values is None else values
    )

  operands = (g, jnp.float32(1.7), sigma)
  got = jax.grad(lambda *a: loss(fast, *a), (0, 1, 2))(*operands)
  want = jax.grad(lambda *a: loss(fake_quant.plain_gradient, *a), (0, 1, 2))(*operands)
  for one, other in zip(got, want, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@needs_engine
def test_sums_do_not_depend_on_who_is_first():
  x, _, noise, g = _operands((50_000, 7))
  run = lambda: quantizer_gradient(
    g, x, jnp.float32(1.0), jnp.full((7,), 0.3), signed=True, values=noise
  )
  first = [np.asarray(a) for a in run()]
  for _ in range(5):
    for got, want in zip(run(), first, strict=True):
      np.testing.assert_array_equal(got, want)


@needs_engine
def test_wrong_shapes_are_refused():
  x = jnp.zeros((4, 3))
  with pytest.raises(jax.errors.JaxRuntimeError, match=r"sigma must have shape \(3\), got \(2\)"):
    quantizer_gradient(x, x, jnp.float32(1.0), jnp.ones(2), signed=True)
