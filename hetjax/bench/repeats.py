"""Times of packed layers as they are inside a network: without the call from Python."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from hetjax import ops
from hetjax.bench import ours
from hetjax.bench.timing import bursts
from hetjax.bench.workloads import MIXES, ConvSpec, layout_of

Mix = Mapping[int, float]

# What packs the outputs: costs of a layer must not depend on which layer follows, and in a network
# of mixed levels it is one of mixed levels.
FOLLOWING = MIXES["60/30/10"]
# A call should be long beside the clock and short beside a scheduler's time slice: others then
# rarely interrupt it.
CALL_SECONDS = 6e-4
MOST_REPEATS = 16
_NOTHING = ConvSpec("one product", 1, 1, 1, kernel=1)


def repeated(spec: ConvSpec, mix: Mix) -> Callable[[int], None]:
  """A compiled function that runs the layer so often, one after the other, in one call.

  The scale of the outputs' grid passes from one run to the next, so that none can be left out.
  """
  layer = ours.conv_layer(spec, mix)
  window = {"strides": spec.strides, "padding": [(spec.padding, spec.padding)] * 2}
  follows = ops.Requantize(layer.follows.inv_beta, layout_of(FOLLOWING, spec.outputs), False)

  def call(times, weights, scale, bias, x, follows):
    def body(_, inv_beta):
      here = dataclasses.replace(follows, inv_beta=inv_beta)
      _, (y,) = ops.fused_conv(
        x,
        weights,
        scale,
        bias,
        signed=layer.signed,
        inv_beta=layer.inv_beta,
        activation="relu",
        requantize=[here],
        keep_values=False,
        **window,
      )
      return inv_beta + 0.0 * y[0, 0, 0, 0].astype(jnp.float32)

    return jax.lax.fori_loop(0, times, body, follows.inv_beta)

  weights = ops.prepare_weights(layer.weights)
  prepared = jax.device_put((weights, layer.scale, layer.bias, layer.x, follows))
  run = jax.jit(call).lower(jnp.int32(1), *prepared).compile()
  return lambda times: jax.block_until_ready(run(jnp.int32(times), *prepared))


def layer_seconds(
  layers: Sequence[tuple[ConvSpec, Mix]], seconds: float
) -> Float[np.ndarray, " layers"]:
  """Seconds that each layer takes inside a compiled program.

  All take turns, so that a while of other work on the machine is no one layer's loss. A time is the
  first quartile of the calls, as others can only lengthen them, without the call from Python, which
  is that of a layer of one product.

  Args:
    layers: Layers and the shares of their channels by level.
    seconds: Per layer.
  """
  runs = {}
  for key, layer in enumerate(layers):
    run = repeated(*layer)
    runs[key, _repeats(run)] = run
  nothing = repeated(_NOTHING, {1: 1.0})
  runs |= {("nothing", times): nothing for times in (1, MOST_REPEATS + 1)}
  calls = {key: lambda run=run, times=key[1]: run(times) for key, run in runs.items()}
  timings = bursts(calls, seconds=seconds * len(calls), burst=3e-3)
  low = {key: timing.low for key, timing in timings.items()}
  once, often = low.pop(("nothing", 1)), low.pop(("nothing", MOST_REPEATS + 1))
  around = once - (often - once) / MOST_REPEATS
  # Never nothing, however much the times of calls scatter.
  return np.array([max(taken - around, 0.05 * taken) / times for (_, times), taken in low.items()])


def _repeats(run: Callable[[int], None]) -> int:
  run(1)
  taken = []
  for _ in range(3):
    begun = time.perf_counter()
    run(1)
    taken.append(time.perf_counter() - begun)
  return min(max(math.ceil(CALL_SECONDS / min(taken)), 1), MOST_REPEATS)
