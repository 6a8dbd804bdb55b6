"""Static description of a model's quantized layers, found by tracing it once without computing."""

from __future__ import annotations

import flax.linen as nn
import jax
from jaxtyping import Array, Shaped

from hetjax.core.layers import LayerSpec
from hetjax.nn.quantized import QuantizedLayer


def layer_specs(
  model: nn.Module, example: Shaped[Array, "b ..."] | jax.ShapeDtypeStruct, **kwargs
) -> dict[str, LayerSpec]:
  """Every quantized layer that a call of `model` runs, in order of execution.

  Args:
    model: A Linen module that takes one input.
    example: An input, or its shape and dtype.
    **kwargs: Further keyword arguments of the model's call.

  Returns:
    Layer name ("/"-joined path) -> LayerSpec.

  Raises:
    ValueError: a layer is applied twice; its precisions would serve two different tensors.
  """
  specs: dict[str, LayerSpec] = {}

  def record(call, args, call_kwargs, context):
    y = call(*args, **call_kwargs)
    layer = context.module
    if isinstance(layer, QuantizedLayer) and context.method_name == "__call__":
      spec = layer.layer_spec(args[0].shape, y.shape)
      if spec.name in specs:
        raise ValueError(f"layer {spec.name!r} is applied more than once in one call")
      specs[spec.name] = spec
    return y

  with nn.intercept_methods(record):
    jax.eval_shape(lambda x: model.init(jax.random.key(0), x, **kwargs), example)
  return specs
