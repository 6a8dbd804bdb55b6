"""hetjax's packed layers as benchmark candidates, checked against the reference implementation."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from hetjax import ops
from hetjax.bench.peers.base import Candidate
from hetjax.bench.workloads import ConvSpec, MatvecSpec, layout_of
from hetjax.pack import ChannelLayout, PackedWeights, pack_weights

Mix = Mapping[int, float]


class Wrong(RuntimeError):
  """A benchmarked kernel's result is not what it should be."""


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
  """A packed layer with random codes and scales that keep its outputs in the next grid's range.

  Attributes:
    weights: In storage "file".
    scale: float32[n].
    bias: float32[n].
    signed: Of the activations.
    inv_beta: float32[], by which an image is quantized on the way in; None for records.
    x: What it reads: records, or a float32 image.
    follows: The layout in which the output is packed, None for float32 outputs.
  """

  weights: PackedWeights
  scale: jax.Array
  bias: jax.Array
  signed: bool
  inv_beta: jax.Array | None
  x: jax.Array
  follows: ops.Requantize | None


def _random_layer(kernel_shape, layout: ChannelLayout, follows, shape, *, image: bool) -> Layer:
  rng = np.random.default_rng(2)
  kh, kw, per_group, outputs = kernel_shape
  bits = layout.bits_array.reshape(layout.groups, per_group).T
  by_weight = np.repeat(bits, outputs // layout.groups, axis=1)
  codes = rng.integers(0, 256, kernel_shape).astype(np.uint8) >> (8 - by_weight).astype(np.uint8)
  fan_in = kh * kw * per_group
  # Levels of weights spread by about 1 around zero, of activations between 0 and 4.
  scale = np.float32(layout.palette.unit(image) * 1.5 / np.sqrt(fan_in))
  values = rng.normal(size=shape).astype(np.float32)
  inv_beta = jnp.float32(1.0)
  x = jnp.asarray(values)
  if not image:
    x = ops.quantize_pack(jnp.maximum(x, 0), inv_beta, layout=layout, signed=False)
  return Layer(
    weights=pack_weights(codes, layout),
    scale=jnp.asarray(scale * rng.uniform(0.5, 1.5, outputs).astype(np.float32)),
    bias=jnp.asarray(0.1 * rng.normal(size=outputs).astype(np.float32)),
    signed=image,
    inv_beta=inv_beta if image else None,
    x=x,
    follows=None if follows is None else ops.Requantize(inv_beta, follows, False),
  )


def conv_layer(spec: ConvSpec, mix: Mix) -> Layer:
  """The packed counterpart of `workloads.conv_graph`: an image's channels have 8 bits."""
  layout = layout_of({8: 1.0} if spec.image else mix, spec.channels, spec.groups)
  shape = (1, spec.size, spec.size, spec.channels)
  follows = layout_of(mix, spec.outputs)
  return _random_layer(spec.kernel_shape, layout, follows, shape, image=spec.image)


def dense_layer(spec: MatvecSpec, mix: Mix) -> Layer:
  """The packed counterpart of `workloads.matvec_graph`: records in, float32 out."""
  layout = layout_of(mix, spec.channels)
  shape = (spec.batch, spec.channels)
  kernel_shape = (1, 1, spec.channels, spec.outputs)
  return _random_layer(kernel_shape, layout, None, shape, image=False)


def _check_equal(got: jax.Array, want: jax.Array, what: str) -> None:
  """Equal results of the implementation and of the reference.

  Raises:
    Wrong: they differ.
  """
  wrong = np.count_nonzero(np.asarray(got) != np.asarray(want))
  if wrong:
    raise Wrong(f"{wrong} of {want.size} {what} differ from the reference implementation's")


def conv_candidates(spec: ConvSpec, mix: Mix, counts: Sequence[int] = (1,)) -> list[Candidate]:
  """The layer so often in a row in one call, its weights as arguments and as constants.

  Args:
    spec: The layer; it must be able to follow itself where a count is above 1.
    mix: Shares of channels by level.
    counts: Two candidates each.

  Raises:
    Wrong: a result differs from the reference implementation's.
  """
  layer = conv_layer(spec, mix)
  window = {"strides": spec.strides, "padding": [(spec.padding, spec.padding)] * 2}
  a = layer.x
  if layer.inv_beta is not None:
    a = ops.quantize_pack(a, layer.inv_beta, layout=layer.weights.layout, signed=layer.signed)
  sums = functools.partial(ops.packed_conv, a, layer.weights, signed=layer.signed, **window)
  _check_equal(sums(), sums(implementation="reference"), "accumulators")

  def call(layers, x, weights, scale, bias, inv_beta, follows, implementation=None):
    for _ in range(layers):
      _, (x,) = ops.fused_conv(
        x,
        weights,
        scale,
        bias,
        signed=layer.signed,
        inv_beta=inv_beta,
        activation="relu",
        requantize=[follows],
        keep_values=False,
        implementation=implementation,
        **window,
      )
    return x

  def arguments(weights):
    return weights, layer.scale, layer.bias, layer.inv_beta, layer.follows

  x, prepared = jax.device_put((layer.x, arguments(ops.prepare_weights(layer.weights))))
  want = functools.partial(call, 1, implementation="reference")
  want = np.asarray(jax.jit(want)(x, *arguments(layer.weights)))
  candidates = []
  for layers in counts:
    run = functools.partial(call, layers)
    settings = {
      "arguments": (jax.jit(run), (x, *prepared)),
      "constants": (jax.jit(lambda x, run=run: run(x, *prepared)), (x,)),
    }
    for where, (compiled, operands) in settings.items():
      if layers == 1:
        _check_equal(np.asarray(compiled(*operands)), want, "record bytes")
      setting = f"{layers} a call, weights as {where}"
      candidates.append(_candidate(setting, compiled, operands, layers))
  return candidates


def dense_candidates(
  specs: Sequence[MatvecSpec], mix: Mix, copies: int = 1
) -> list[list[Candidate]]:
  """Dense layers of one matrix, each once for each of `copies` copies of its weights.

  Args:
    specs: They differ in nothing but the batch, and share the weights.
    mix: Shares of channels by level.
    copies: Of the weights.

  Raises:
    Wrong: a result differs from the reference implementation's.
  """
  layer = dense_layer(max(specs, key=lambda spec: spec.batch), mix)
  weights, options = layer.weights, {"signed": False}
  rest = jax.device_put((layer.scale, layer.bias))
  reference = options | {"implementation": "reference"}
  sums = np.asarray(ops.packed_matmul(layer.x, weights, **reference))
  values = np.asarray(ops.fused_matmul(layer.x, weights, *rest, **reference)[0])
  prepared = ops.prepare_weights(weights)
  copied = [prepared, *(jax.tree.map(jnp.copy, prepared) for _ in range(copies - 1))]
  run = jax.jit(lambda x, *arguments: ops.fused_matmul(x, *arguments, **options)[0])
  found = []
  for spec in specs:
    x = jnp.copy(layer.x[: spec.batch])
    accumulators = ops.packed_matmul(x, prepared, **options)
    _check_equal(accumulators, sums[: spec.batch], "accumulators")
    _check_equal(np.asarray(run(x, prepared, *rest)), values[: spec.batch], "values")
    found.append([_candidate("1 a call", run, (x, each, *rest), 1) for each in copied])
  return found


def _candidate(setting, run, arguments, layers) -> Candidate:
  return Candidate(
    setting,
    lambda: jax.block_until_ready(run(*arguments)),
    lambda: np.asarray(run(*arguments)),
    layers,
  )
