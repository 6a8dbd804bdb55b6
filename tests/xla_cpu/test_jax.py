"""The engine as XLA calls it: jit, vmap, threads, donation, refusals."""

import dataclasses
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hetjax import xla_cpu
from hetjax.core.palette import Palette
from hetjax.core.quantize import encode, to_grid
from hetjax.pack import ChannelLayout, PackedWeights, pack_activations
from hetjax.xla_cpu import call, library
from tests.xla_cpu.cases import PALETTES, Case, random_case, random_codes


def layer(rng, *, channels=40, outputs=70, image=(2, 9, 11), levels=(1, 2, 4), signed=True):
  """A 3x3 convolution."""
  bits = rng.choice(levels, channels)
  layout = ChannelLayout(tuple(bits.tolist()), Palette(levels))
  return Case(
    layout=layout,
    a_codes=random_codes(rng, (*image, channels), layout.bits_array, False),
    w_codes=random_codes(rng, (3, 3, channels, outputs), layout.bits_array[:, None], False),
    signed=signed, strides=(1, 1), padding=((1, 1), (1, 1)), kernel_dilation=(1, 1),
  )  # fmt: skip


def conv(*args, **kwargs):
  """The values alone."""
  (values,) = call.conv(*args, **kwargs)
  return values


@pytest.fixture
def case():
  return layer(np.random.default_rng(0))


@pytest.fixture
def shared_case():
  """Large enough to be split among threads, whatever the instructions."""
  case = layer(np.random.default_rng(0), image=(4, 20, 11))
  positions = 4 * 20 * 11 - 112  # see core/conv.cc
  assert positions * 70 * (9 * 40 + 256) > 8 << 20
  return case


def test_random_layers_jitted():
  rng = np.random.default_rng(5)
  for number in range(30):
    case = random_case(rng, PALETTES[number % len(PALETTES)])

    @jax.jit
    def run(a, weights, case=case):
      return conv(a, call.relayout(weights), None, None, **case.geometry)

    got = run(case.records, case.weights)
    assert got.dtype == jnp.int32
    np.testing.assert_array_equal(got, case.expected())


def test_eager_and_prepared_weights(case):
  weights = jax.jit(call.relayout)(case.weights)
  assert weights.storage == f"xla_cpu:{xla_cpu.weight_format()}"
  assert weights.corrections.shape == (3, 9, 70)
  got = conv(jnp.asarray(case.records), weights, None, None, **case.geometry)
  np.testing.assert_array_equal(got, case.expected())


@pytest.mark.parametrize("signed", [False, True])
def test_corrections_are_the_sums_they_claim_to_be(signed):
  """T of one tap with all codes zero is the tap's last correction when signed, else zero."""
  case = layer(np.random.default_rng(1), levels=(1, 4, 8), image=(1, 1, 1), signed=signed)
  case = dataclasses.replace(
    case, a_codes=np.zeros_like(case.a_codes), w_codes=case.w_codes[:1, :1], padding=((0, 0),) * 2
  )
  weights = call.relayout(case.weights)
  got = np.asarray(conv(case.records, weights, None, None, **case.geometry)).ravel()
  np.testing.assert_array_equal(got, case.expected().ravel())
  if signed:
    np.testing.assert_array_equal(got, weights.corrections[2, 0])
  else:
    assert not got.any()


def test_vmap_over_images_and_over_weights(case):
  rng = np.random.default_rng(2)
  weights = call.relayout(case.weights)
  run = jax.vmap(lambda a: conv(a[None], weights, None, None, **case.geometry)[0])
  np.testing.assert_array_equal(jax.jit(run)(case.records), case.expected())

  other = random_codes(rng, case.w_codes.shape, case.layout.bits_array[:, None], False)
  second = dataclasses.replace(case, w_codes=other)
  stacked = jax.tree.map(lambda *x: jnp.stack(x), case.weights, second.weights)
  run = jax.vmap(lambda w: conv(case.records, call.relayout(w), None, None, **case.geometry))
  np.testing.assert_array_equal(run(stacked), np.stack([case.expected(), second.expected()]))


def test_vmap_of_quantize_pack(case):
  x = jnp.asarray(np.random.default_rng(3).standard_normal((3, 5, 40)), jnp.float32)
  betas = jnp.asarray([0.5, 1.0, 2.0], jnp.float32)
  got = jax.vmap(lambda v, b: call.quantize_pack(v, b, case.layout, True))(x, betas)
  codes = encode(np.asarray(x * betas[:, None, None]), case.layout.bits_array, signed=True, xp=np)
  np.testing.assert_array_equal(got, pack_activations(codes.astype(np.uint8), case.layout))


def test_subnormals_under_xla(case):
  """XLA flushes subnormals on its threads, NumPy does not: codes must not depend on it."""
  rng = np.random.default_rng(6)
  x = rng.choice(np.float32([-1e-40, 1e-40, -2e-38, 2e-38]), (4096, 40))
  inv_beta = np.float32(2.0**-100)
  got = jax.jit(lambda v: call.quantize_pack(v, inv_beta, case.layout, True))(x)
  codes = encode(to_grid(x, inv_beta, np), case.layout.bits_array, signed=True, xp=np)
  np.testing.assert_array_equal(got, pack_activations(codes.astype(np.uint8), case.layout))


def test_threads_share_the_pool(shared_case):
  case = shared_case
  weights = call.relayout(case.weights)
  run = jax.jit(lambda a, w: conv(a, w, None, None, **case.geometry))
  expected = case.expected()
  with ThreadPoolExecutor(6) as pool:
    results = pool.map(lambda _: np.asarray(run(case.records, weights)), range(60))
    for got in results:
      np.testing.assert_array_equal(got, expected)


def test_independent_calls_in_one_computation(shared_case):
  """Several handlers at once, each splitting its work on the pool it runs on."""
  case = shared_case
  weights = call.relayout(case.weights)

  @jax.jit
  def run(a):
    return [conv(a ^ np.uint8(0), weights, None, None, **case.geometry) for _ in range(8)]

  for got in run(case.records):
    np.testing.assert_array_equal(got, case.expected())


def test_donation(case):
  """A donated record buffer may become the output's; the engine never reads what it has written."""
  weights = call.relayout(case.weights)
  scale, bias = jnp.ones(70), jnp.zeros(70)

  def chain(y):
    records = call.quantize_pack(y[..., :40], jnp.float32(1), case.layout, True)
    return conv(records, weights, scale, bias, **case.geometry)

  y = np.random.default_rng(4).standard_normal((2, 9, 11, 70)).astype(np.float32)
  expected = jax.jit(chain)(y)
  got = jax.jit(chain, donate_argnums=0)(jnp.array(y))
  np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("isa", xla_cpu.isas() if xla_cpu.available()[0] else ("scalar",))
def test_instruction_sets_agree_through_jax(case, isa):
  with xla_cpu.force_isa(isa):
    weights = call.relayout(case.weights)
    got = conv(case.records, weights, None, None, **case.geometry).block_until_ready()
  np.testing.assert_array_equal(got, case.expected())


CONSUMER_ATTRIBUTES = ("bits", "levels", "level_counts", "signed")


def ffi_conv(case, *, out=None, operands=None, **changes):
  """The raw FFI call with some arguments replaced."""
  weights = call.relayout(case.weights)
  attributes = {
    "signed": np.bool_(True),
    "strides": np.int32([1, 1]),
    "padding": np.int32([1, 1, 1, 1]),
    "kernel_dilation": np.int32([1, 1]),
    **call._layer_attributes(case.weights),
    "format": xla_cpu.weight_format(),
    "epilogue": np.bool_(len(operands or {}) > 1),
    "quantize": np.bool_(False),
    "residual": np.bool_(False),
    "keep_values": np.bool_(True),
    "activation": np.int32(0),
    **{f"consumer_{name}": np.zeros(0, np.int32) for name in CONSUMER_ATTRIBUTES},
  } | changes
  out = out or jax.ShapeDtypeStruct((2, 9, 11, 70), jnp.int32)
  given = {"a": case.records, "codes": weights.codes, "corrections": weights.corrections}
  given |= operands or {}
  run = jax.ffi.ffi_call("hetjax_conv", (out,))
  return np.asarray(run(*given.values(), **attributes)[0])


@pytest.mark.parametrize(
  ("match", "changes"),
  [
    ("output|outputs", {"out": jax.ShapeDtypeStruct((2, 9, 11, 69), jnp.int32)}),
    ("output must have shape", {"out": jax.ShapeDtypeStruct((9, 2, 11, 70), jnp.int32)}),
    ("output must be int32", {"out": jax.ShapeDtypeStruct((2, 9, 11, 70), jnp.float32)}),
    ("bytes of a record", {"operands": {"a": np.zeros((2, 9, 11, 5), np.uint8)}}),
    ("rank of the records", {"operands": {"a": np.zeros((9, 11, 5), np.uint8)}}),
    ("dtype|element type", {"operands": {"a": np.zeros((2, 9, 11, 16), np.int32)}}),
    ("prepared weights must have", {"operands": {"codes": np.zeros(100, np.uint8)}}),
    ("corrections must have", {"operands": {"corrections": np.zeros((3, 9, 71), np.int32)}}),
    ("operands after the corrections", {"operands": {"scale": np.zeros(70, np.float32)}}),
    (
      "bias must have shape",
      {"operands": {"scale": np.zeros(70, np.float32), "bias": np.zeros(7, np.float32)}},
    ),
    (
      "scale must be a float32",
      {"operands": {"scale": np.zeros(70, np.int32), "bias": np.zeros(70, np.float32)}},
    ),
    ("attribute format must name", {"format": "square"}),
    ("instruction set .* reads", {"format": "vector"}),
    ("need scale and bias", {"activation": np.int32(1)}),
    (
      "attribute activation",
      {
        "activation": np.int32(3),
        "operands": {"scale": np.zeros(70, np.float32), "bias": np.zeros(70, np.float32)},
      },
    ),
    ("operand scale is missing", {"epilogue": np.bool_(True)}),
    ("channels of x", {"quantize": np.bool_(True)}),
    ("consumer_bits", {"consumer_bits": np.int32([1])}),
    ("values must be kept", {"keep_values": np.bool_(False)}),
    ("attribute strides", {"strides": np.int32([1])}),
    ("stride must be", {"strides": np.int32([0, 1])}),
    ("padding must be", {"padding": np.int32([-1, 1, 1, 1])}),
    ("kernel dilation must be", {"kernel_dilation": np.int32([1, 0])}),
    ("kernel height must be", {"kernel": np.int32([0, 3, 70])}),
    ("too large|must be", {"kernel": np.int32([2**31 - 1, 2**31 - 1, 2**31 - 1])}),
    ("groups must", {"groups": np.int32(3)}),
    ("groups must", {"groups": np.int32(0)}),
    ("bits of channel 0", {"bits": np.full(40, 3, np.int32)}),
    ("levels must increase", {"levels": np.int32([2, 1, 4])}),
    ("palette levels", {"levels": np.int32([1, 2, 4, 8])}),
    ("Wrong array data type: expected S32 but got S64", {"bits": np.full(40, 1, np.int64)}),
  ],
)
def test_wrong_calls_are_errors_not_crashes(case, match, changes):
  with pytest.raises((ValueError, jax.errors.JaxRuntimeError), match=match):
    ffi_conv(case, **changes)


def test_the_call_that_the_wrong_ones_vary_is_right(case):
  np.testing.assert_array_equal(ffi_conv(case), case.expected())


def test_wrong_storage_is_refused(case):
  weights = call.relayout(case.weights)
  with pytest.raises(ValueError, match="storage 'file', got 'xla_cpu:"):
    call.relayout(weights)
  with pytest.raises(ValueError, match="storage 'xla_cpu:.*, got 'file'"):
    conv(case.records, case.weights, None, None, **case.geometry)
  short = PackedWeights(case.weights.codes[:-1], case.layout, case.weights.kernel_shape)
  with pytest.raises(ValueError, match="weights must be uint8"):
    call.relayout(short)


def in_new_process(code: str, **environment) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, "-c", code],
    env={**os.environ, **environment}, capture_output=True, text=True, check=False,
  )  # fmt: skip


def test_environment_variable_forces_an_instruction_set():
  show = "from hetjax import xla_cpu; print(xla_cpu.active_isa())"
  assert in_new_process(show, HETJAX_CPU_ISA="scalar").stdout.strip() == "scalar"
  refused = in_new_process(show, HETJAX_CPU_ISA="neon")
  assert refused.returncode
  assert "HETJAX_CPU_ISA 'neon' cannot run here; available: scalar" in refused.stderr


def test_missing_library_is_a_reason_not_a_crash(tmp_path):
  show = "from hetjax import xla_cpu; print(xla_cpu.available())"
  shown = in_new_process(show, HETJAX_CPU_LIBRARY=str(tmp_path / "none.so")).stdout
  assert shown.startswith("(False, 'the engine is not built")
  broken = tmp_path / "broken.so"
  broken.write_bytes(b"not a library")
  shown = in_new_process(show, HETJAX_CPU_LIBRARY=str(broken)).stdout
  assert shown.startswith("(False, 'the engine") and "cannot be loaded" in shown


def test_handlers_that_jaxlib_refuses_are_a_reason_not_a_broken_backend(monkeypatch):
  """A running backend refuses at once; one that starts later would fail to start."""
  started = []
  devices = jax.devices
  monkeypatch.setattr(jax, "devices", lambda name: started.append(name) or devices(name))

  def refuse(*_, **__):
    assert started == ["cpu"]
    raise RuntimeError("API version (0.5) is incompatible")

  monkeypatch.setattr(jax.ffi, "register_ffi_target", refuse)
  assert "cannot be loaded: API version" in library.load.__wrapped__()


POOL = {
  "window": np.int32([3, 3]),
  "strides": np.int32([2, 2]),
  "padding": np.int32([1, 1, 1, 1]),
  "dilation": np.int32([1, 1]),
}


@pytest.mark.parametrize(
  ("match", "shape", "changes"),
  [
    ("y must have shape", (1, 4, 4, 5), {}),
    ("x must have shape", (3, 3, 5), {}),
    ("attribute window", (1, 3, 3, 5), {"window": np.int32([3])}),
    ("window height", (1, 3, 3, 5), {"window": np.int32([0, 3])}),
    ("stride", (1, 3, 3, 5), {"strides": np.int32([0, 2])}),
    ("padding", (1, 3, 3, 5), {"padding": np.int32([-1, 1, 1, 1])}),
  ],
)
def test_max_pool_refuses_what_does_not_fit(match, shape, changes):
  xla_cpu.active_isa()
  images = {4: (1, 5, 5, 5), 3: (5, 5, 5)}
  x = jnp.zeros(images[len(shape)], jnp.float32)
  run = jax.ffi.ffi_call("hetjax_max_pool", jax.ShapeDtypeStruct(shape, jnp.float32))
  with pytest.raises(Exception, match=match):
    jax.block_until_ready(run(x, **(POOL | changes)))


@pytest.mark.parametrize(
  ("window", "padding", "columns"),
  [
    ((1 << 16, 1 << 16), ((1 << 16) - 1, 0, (1 << 16) - 1, 0), 1),
    ((1 << 23, 1 << 23), ((1 << 23) - 1, 0, (1 << 23) + (1 << 18) - 2, 0), 1 << 18),
  ],
)
def test_max_pool_of_windows_far_larger_than_the_image(window, padding, columns):
  xla_cpu.active_isa()
  out = jax.ShapeDtypeStruct((1, 1, columns, 1), jnp.float32)
  changes = {"window": np.int32(window), "padding": np.int32(padding), "strides": np.int32([1, 1])}
  x = jnp.full((1, 1, 1, 1), 3.0, jnp.float32)
  y = np.asarray(jax.ffi.ffi_call("hetjax_max_pool", out)(x, **(POOL | changes))).ravel()
  assert set(np.unique(y)) <= {np.float32(3.0), np.float32(-np.inf)} and y[-1] == 3.0
