"""The fusion pass: what it fuses, and that everything computes what it did before."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import hetjax
from hetjax import ops
from hetjax.core import Palette
from hetjax.ops.primitives import FUSED_LAYER, PACKED_LAYER
from hetjax.pack import ChannelLayout, pack_weights
from hetjax.runtime.fuse import fuse
from hetjax.runtime.graph import trace
from tests.runtime.zoo import NETS, packed, scores


@functools.cache
def network(name, implementation=None):
  variables, _ = packed(name)
  return hetjax.compile(NETS[name].model, variables, implementation=implementation)


def counted(graph):
  names = [node.primitive.name for node in graph.nodes]
  return {n: names.count(n) for n in ("fused_layer", "packed_layer", "quantize_pack")}


def fused_layers(graph):
  return [
    FUSED_LAYER.arguments(node.inputs, node.parameters)
    for node in graph.nodes
    if node.primitive is FUSED_LAYER.primitive
  ]


@pytest.mark.parametrize("name", NETS)
def test_layers_are_fused_and_records_flow_between_them(name):
  net, images = NETS[name], packed(name)[1]
  graph = network(name).program(jax.ShapeDtypeStruct(images.shape, images.dtype)).graph
  expected = {"fused_layer": net.fused, "packed_layer": 0, "quantize_pack": net.quantize_packs}
  assert counted(graph) == expected
  assert sum(static["keep_values"] for _, static in fused_layers(graph)) == net.kept
  # The same is true of what jax sees.
  jaxpr = jax.make_jaxpr(network(name))(images).jaxpr
  (inner,) = [e.params["jaxpr"].jaxpr for e in jaxpr.eqns if "jaxpr" in e.params]
  names = [e.primitive.name for e in inner.eqns]
  assert {n: names.count(n) for n in expected} == expected


def accumulators(graph, x):
  """By the layer's weights, T of the records that each layer reads in a run of the program."""
  found = {}
  known = {graph.inputs[0]: x}
  for node in graph.nodes:
    operands = [known.get(v, v.constant) for v in node.inputs]
    operation = {op.primitive: op for op in (FUSED_LAYER, PACKED_LAYER)}.get(node.primitive)
    if operation is not None:
      args, static = operation.arguments(operands, node.parameters)
      a, weights, inv_beta = args[0], args[1], args[4] if operation is FUSED_LAYER else None
      if inv_beta is not None:
        a = ops.quantize_pack(a, inv_beta, layout=weights.layout, signed=static["signed"])
      keywords = {k: static[k] for k in ("signed", "window", "implementation")}
      assert id(weights.codes) not in found
      (found[id(weights.codes)],) = PACKED_LAYER(a, weights, None, None, **keywords)
    results = node.primitive.bind(*operands, **node.parameters)
    results = results if node.primitive.multiple_results else [results]
    known |= zip(node.outputs, results, strict=True)
  return found


@pytest.mark.parametrize("name", NETS)
def test_accumulators_equal_those_of_the_unfused_program(name):
  net = network(name)
  images = packed(name)[1][:3]
  shape = jax.ShapeDtypeStruct(images.shape, images.dtype)
  unfused, _ = trace(net.apply, net.variables, shape)
  assert counted(unfused)["packed_layer"] == NETS[name].fused
  fused = fuse(unfused)
  expected, got = jax.jit(lambda x: (accumulators(unfused, x), accumulators(fused, x)))(images)
  assert len(expected) == NETS[name].fused and expected.keys() == got.keys()
  for key, t in expected.items():
    assert t.dtype == jnp.int32 and np.abs(t).max() > 0
    np.testing.assert_array_equal(got[key], t)


def assert_same_result(got, expected):
  """Norms folded into scales round otherwise; classes may not change."""
  assert jax.tree.structure(got) == jax.tree.structure(expected)
  close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
  jax.tree.map(close, got, expected)
  np.testing.assert_array_equal(scores(got).argmax(-1), scores(expected).argmax(-1))


@pytest.mark.parametrize("name", NETS)
def test_results_equal_those_of_the_unfused_program(name):
  net, images = network(name), packed(name)[1]
  expected = jax.jit(net.apply)(net.variables, images)
  assert_same_result(net(images), expected)
  for batch in (1, 7):
    part = jax.tree.map(operator.itemgetter(slice(batch)), expected)
    assert_same_result(net(images[:batch]), part)


@pytest.mark.parametrize("name", ["resnet", "separable", "encoder", "strange"])
def test_the_reference_runs_the_fused_program_too(name):
  images = packed(name)[1][:4]
  assert_same_result(network(name, "reference")(images), network(name)(images))


LAYOUT = ChannelLayout((4, 2, 1, 4, 2, 1), Palette())
RNG = np.random.default_rng(0)
CODES = RNG.integers(0, 2, (1, 1, 6, 6)).astype(np.uint8)
VARIABLES = {
  "weights": pack_weights(CODES, LAYOUT),
  "scale": RNG.uniform(0.01, 0.02, 6).astype(np.float32),
  "bias": RNG.normal(size=6).astype(np.float32),
  "one": np.float32(1),
  "gain": RNG.uniform(0.5, 2, 6).astype(np.float32),
}
X = jnp.asarray(RNG.normal(size=(5, 6)).astype(np.float32))


def layer(v, x, **options):
  a = ops.quantize_pack(x, v["one"], layout=LAYOUT, signed=True)
  return ops.packed_matmul(a, v["weights"], v["scale"], options.get("bias", v["bias"]), signed=True)


def programs(function, x=X):
  graph, tree = trace(function, VARIABLES, jax.ShapeDtypeStruct(x.shape, x.dtype))
  fused = fuse(graph)
  run = lambda g: jax.tree.unflatten(tree, g.run([c.constant for c in g.constants()], [x]))
  expected = jax.jit(function)(VARIABLES, x)
  for result in (run(graph), run(fused)):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-6), result, expected)
  return fused


def test_steps_fold_in_any_number_until_the_residual():
  def function(v, x):
    y = (layer(v, x) - v["bias"]) * v["gain"] / 3.0 + jnp.broadcast_to(v["gain"], (5, 6))
    y = -(2.0 - y)
    y = jax.jit(lambda y: y * v["gain"])(y)
    return jnp.clip(y + x, 0.0, 6.0)

  (((_, _, scale, bias, _, residual, _), static),) = fused_layers(programs(function))
  assert static["activation"] == "relu6"
  assert residual is not None
  gain, original = VARIABLES["gain"].astype(np.float64), VARIABLES["bias"].astype(np.float64)
  np.testing.assert_allclose(scale.constant, VARIABLES["scale"] * gain / 3 * gain, rtol=1e-6)
  expected = ((original - original) * gain / 3 + gain - 2) * gain
  np.testing.assert_allclose(bias.constant, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
  ("step", "kept"),
  [
    (lambda y, v, x: (y + x) * 2.0, "mul"),  # a scale after the residual
    (lambda y, v, x: jnp.maximum(y, 0.0) + x, "add"),  # a residual after the activation
    (lambda y, v, x: jnp.maximum(y, 0.5), "max"),
    (lambda y, v, x: jnp.maximum(y, v["gain"]), "max"),
    (lambda y, v, x: jnp.minimum(jnp.maximum(y, 0.0), 5.0), "min"),
    (lambda y, v, x: y * x, "mul"),
    (lambda y, v, x: x - y, "sub"),
    (lambda y, v, x: y - x, "sub"),
    (lambda y, v, x: v["gain"] / y, "div"),
    (lambda y, v, x: y / (v["gain"] * 0), "div"),
    (lambda y, v, x: y * np.float32(1e38) * np.float32(1e38), "mul"),  # scale would be infinite
    (lambda y, v, x: y + x[:1], "add"),
    (lambda y, v, x: y.T + v["gain"][:, None], "add"),
    (lambda y, v, x: (y + 1.0, y), "add"),  # y is a result too
    (lambda y, v, x: jnp.square(y) + jnp.maximum(y, 0.0), "max"),  # two readers
  ],
)
def test_what_does_not_fit_the_pattern_stays(step, kept):
  graph = programs(lambda v, x: step(layer(v, x), v, x))
  assert counted(graph)["fused_layer"] == 1
  assert kept in [node.primitive.name for node in graph.nodes]


def test_a_scale_that_is_computed_from_the_input_is_left_alone():
  def function(v, x):
    return layer(v, x, bias=x[0]) * v["gain"]

  graph = programs(function)
  assert [n.primitive.name for n in graph.nodes if n.primitive.name in ("mul", "fused_layer")] == [
    "fused_layer",
    "mul",
  ]


def test_consumers_of_equal_form_share_their_records():
  def function(v, x):
    y = jnp.maximum(layer(v, x), 0.0)
    return layer(v, y) + layer(v, y) * v["gain"]

  graph = programs(function)
  first_layer = fused_layers(graph)[0]
  assert len(first_layer[0][-1]) == 1 and not first_layer[1]["keep_values"]
  assert counted(graph) == {"fused_layer": 3, "packed_layer": 0, "quantize_pack": 0}


def test_records_that_two_layers_or_the_caller_read_are_made_once():
  def function(v, x):
    a = ops.quantize_pack(x, v["one"], layout=LAYOUT, signed=True)
    matmul = lambda: ops.packed_matmul(a, v["weights"], v["scale"], v["bias"], signed=True)
    return matmul(), jnp.tanh(matmul()), a

  assert counted(programs(function)) == {"fused_layer": 2, "packed_layer": 0, "quantize_pack": 1}


def test_raw_accumulators_and_layers_inside_loops_are_left_alone():
  def function(v, x):
    a = ops.quantize_pack(x, v["one"], layout=LAYOUT, signed=True)
    t = ops.packed_matmul(a, v["weights"], signed=True)
    looped = lax.map(lambda row: layer(v, row), x)
    branched = lax.cond(x[0, 0] > 0, lambda x: layer(v, x), lambda x: x, x)
    return t, looped, branched, jax.vmap(lambda row: layer(v, row))(x)

  counts = counted(programs(function))
  assert counts["packed_layer"] == 1 and counts["quantize_pack"] == 1


def test_what_depends_on_variables_alone_is_computed_once():
  def function(v, x):
    return x * (v["gain"] / jnp.sqrt(v["scale"] + 1e-5)) + jnp.broadcast_to(v["bias"], x.shape)

  names = [node.primitive.name for node in programs(function).nodes]
  assert "sqrt" not in names and "div" not in names


def test_a_print_stays():
  printed = []

  def function(v, x):
    jax.debug.callback(lambda y: printed.append(y.shape), layer(v, x))
    return x + 1.0

  assert counted(programs(function))["fused_layer"] == 1
  jax.effects_barrier()
  assert printed == [(5, 6)] * 3  # unfused, fused, and the plain function


@pytest.mark.parametrize("implementation", ["xla_cpu", "reference"])
def test_a_fused_layer_is_one_call_of_the_engine(implementation):
  if ops.implementations()[implementation]:
    pytest.skip("needs the CPU engine")
  program = network("resnet", implementation).program(
    jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
  )
  calls = program.lower(jnp.zeros((1, 8, 8, 3))).as_text().count("stablehlo.custom_call @hetjax_")
  assert calls == (NETS["resnet"].fused if implementation == "xla_cpu" else 0)
