"""`hetjax.compile`: an ordinary function, for any batch, traced once a shape."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import hetjax
from hetjax import ops, runtime
from hetjax.runtime import network as network_module
from tests.runtime.zoo import NETS, packed


@pytest.fixture
def net():
  return hetjax.compile(NETS["separable"].model, packed("separable")[0])


@pytest.fixture
def images():
  return packed("separable")[1]


def test_inside_jit_vmap_and_grad_of_something_else(net, images):
  inside = jax.jit(lambda x: net(2.0 * x) + 1.0)(images[:3])  # traces first inside another trace
  np.testing.assert_allclose(inside, net(2.0 * images[:3]) + 1.0, rtol=1e-6)
  mapped = jax.vmap(lambda x: net(x[None])[0])(images[:3])
  np.testing.assert_allclose(mapped, net(images[:3]), rtol=1e-6)
  gradient = jax.grad(lambda w: jnp.sum(w * jax.lax.stop_gradient(net(images[:3]))))(2.0)
  np.testing.assert_allclose(gradient, jnp.sum(net(images[:3])), rtol=1e-6)


def test_every_shape_is_traced_once_and_weights_are_shared(net, images, monkeypatch):
  traced = []
  trace = network_module.trace

  def counting(function, variables, x):
    traced.append(x.shape)
    return trace(function, variables, x)

  monkeypatch.setattr(network_module, "trace", counting)
  for batch in (1, 7, 1, 7):
    assert net(images[:batch]).shape == (batch, 5)
    assert net(np.asarray(images[:batch])).shape == (batch, 5)
  assert traced == [(1, 8, 8, 3), (7, 8, 8, 3)]
  large = [
    {id(v.constant) for v in net.program(jax.ShapeDtypeStruct((b, 8, 8, 3), "float32"))
     .graph.constants() if v.dtype == jnp.uint8}
    for b in (1, 7)
  ]  # fmt: skip
  assert large[0] and large[0] == large[1]


def test_large_weights_are_arguments_not_part_of_the_compiled_code(net, images, monkeypatch):
  monkeypatch.setattr(network_module, "LARGEST_EMBEDDED", 0)
  program = net.program(jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32))
  text = jax.make_jaxpr(program)(images[:1]).pretty_print(use_color=False)
  assert text.count("fused_layer") == NETS["separable"].fused
  lowered = program.lower(images[:1]).as_text()
  codes = [layer for layer in jax.tree.leaves(net.variables["packed"]) if layer.dtype == jnp.uint8]
  assert lowered.count("xui8>") >= len(codes)
  assert f"dense<{codes[0].ravel()[0]}" not in lowered


def test_small_arrays_are_part_of_the_compiled_code(net, images, monkeypatch):
  def parameters(limit):
    monkeypatch.setattr(network_module, "LARGEST_EMBEDDED", limit)
    compiled = hetjax.compile(net.model, packed("separable")[0])
    program = compiled.program(jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32))
    np.testing.assert_array_equal(compiled(images[:2]), expected)
    (main,) = [t for t in program.lower(images[:2]).as_text().splitlines() if "@main(" in t]
    return main.count("%arg"), sorted(v.constant.nbytes for v in program.graph.constants())

  expected = net(images[:2])
  count, sizes = parameters(64 << 10)
  assert count == 1 and sizes[-1] <= 64 << 10
  middle = sizes[len(sizes) // 2]
  count, _ = parameters(middle)
  assert count == 1 + sum(size > middle for size in sizes) > 1


def test_an_example_is_traced_at_once(images, monkeypatch):
  model, variables = NETS["separable"].model, packed("separable")[0]
  net = hetjax.compile(model, variables, example=images[:2])
  monkeypatch.setattr(network_module, "trace", None)
  assert net(images[:2]).shape == (2, 5)
  monkeypatch.undo()
  with pytest.raises(ValueError, match="must have kernel shape, groups and palette"):
    hetjax.compile(model, variables, example=jax.ShapeDtypeStruct((1, 8, 8, 4), jnp.float32))


def test_with_other_variables_nothing_traced_before_is_reused(net, images):
  before = net(images[:1])
  zeroed = jax.tree.map(lambda v: v if v.dtype == jnp.uint8 else v * 0, net.variables)
  changed = dataclasses.replace(net, variables=zeroed)
  assert not np.array_equal(changed(images[:1]), before)
  np.testing.assert_array_equal(net(images[:1]), before)


def test_what_cannot_be_compiled_is_refused():
  model, variables = NETS["separable"].model, packed("separable")[0]
  with pytest.raises(
    ValueError, match=r"variables must hold the collection 'packed'.*\['params'\]"
  ):
    hetjax.compile(model, {"params": variables["params"]})
  with pytest.raises(ValueError, match="implementation must be"):
    hetjax.compile(model, variables, implementation="cuda")


def test_the_result_may_be_any_pytree():
  net = hetjax.compile(NETS["strange"].model, packed("strange")[0])
  scores, features = net(packed("strange")[1][:2])
  assert scores.shape == (2, 8) and features["features"].shape == (2, 4, 4, 8)


def test_a_model_without_the_keyword_implementation_runs():
  import flax.linen as nn

  from hetjax import nn as hnn
  from tests.shared.nets import quantized_variables

  class Plain(nn.Module):
    @nn.compact
    def __call__(self, x, *, mode="float"):
      return hnn.Dense(3, mode=mode, signed=True)(x)

  x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
  variables, specs = quantized_variables(Plain(), x)
  packed_variables = hnn.pack_variables(variables, specs)
  expected = Plain().apply(variables, x, mode="quantized")
  got = hetjax.compile(Plain(), packed_variables)(x)
  np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_importing_the_package_stays_light():
  code = (
    "import sys, hetjax; assert 'jax' not in sys.modules and 'hetjax.runtime' not in sys.modules;"
    "assert {'compile', 'load', 'export', 'load_exported'} <= set(dir(hetjax))"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
  assert hetjax.compile is runtime.compile and hetjax.load is runtime.load
  with pytest.raises(AttributeError, match="no attribute 'complie'"):
    hetjax.complie  # noqa: B018


def test_prepared_variables_are_taken_as_they_are(net, images):
  again = hetjax.compile(net.model, net.variables)
  np.testing.assert_array_equal(again(images[:2]), net(images[:2]))
  if ops.implementations()["xla_cpu"] == "":
    with pytest.raises(ValueError, match="prepared for implementation"):
      hetjax.compile(net.model, net.variables, implementation="reference")
