"""The same network trained by Qwix, an outside peer of uniform precision.

Qwix quantizes weights per output channel and activations per example by their range, with
straight-through gradients. Its own integer convolutions do not compile for 2 and 4 bits on XLA's
CPU backend (0.1.8), so its quantizer is put before float convolutions, which compute the same: the
scales stand outside of the sums. First and last layer get 8 bits as in hetjax, and attention's
products of activations stay float32 as there.

Needs the extra `peers`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
from jaxtyping import Array

from hetjax.core import Palette
from hetjax.core.layers import LayerSpecs
from hetjax.learn.overhead import overhead_bytes
from hetjax.learn.prices import file_bytes
from hetjax.learn.recipe import Experiment
from hetjax.ops import convolution

QTYPES = {2: "int2", 4: "int4", 8: "int8"}
# Half of a symmetric range is never used after a ReLU, but Qwix has no other for 2 bits.
ACTIVATION_METHODS = {"int8": "minmax", "int4": "minmax", "int2": "absmax"}
_convolve = convolution.convolve


def _rounded(x: Array, qtype: str, axes: tuple[int, ...], method: str) -> Array:
  """Qwix's quantization of a tensor, with straight-through gradients."""
  import qwix

  levels = qwix.dequantize(
    qwix.quantize(x, qtype, channelwise_axes=axes, calibration_method=method)
  )
  return x + jax.lax.stop_gradient(levels.astype(x.dtype) - x)


def quantized_model(model: nn.Module, specs: LayerSpecs, bits: int) -> nn.Module:
  """The model in float mode with Qwix's quantizer before its convolutions and dense layers.

  Raises:
    ValueError: bits that Qwix has no type for.
    ImportError: Qwix is not installed.
  """
  import qwix

  if bits not in QTYPES:
    raise ValueError(f"bits must be one of {sorted(QTYPES)}, got {bits}")

  class Provider(qwix.QtProvider):
    def get_intercept_map(self):
      hook = {"hetjax.ops.convolution.convolve": self.convolve}
      return super().get_intercept_map() | hook

    def convolve(self, x, kernel, **geometry):
      rule, _ = self._get_current_rule_and_op_id("conv_general_dilated")
      kernel = _rounded(kernel, rule.weight_qtype, (3,), rule.weight_calibration_method)
      x = _rounded(x, rule.act_qtype, (0,), ACTIVATION_METHODS[rule.act_qtype])
      return _convolve(x, kernel, **geometry)

    def dot_general(self, x, kernel, dimension_numbers, *args, **options):
      if any(dimension_numbers[1]):  # attention's own products, float32 in hetjax too
        return jax.lax.dot_general(x, kernel, dimension_numbers, *args, **options)
      rule, _ = self._get_current_rule_and_op_id("dot_general")
      kernel = _rounded(kernel, rule.weight_qtype, (1,), rule.weight_calibration_method)
      x = _rounded(x, rule.act_qtype, (0,), ACTIVATION_METHODS[rule.act_qtype])
      return jax.lax.dot_general(x, kernel, dimension_numbers, *args, **options)

  rules = [
    qwix.QtRule(
      module_path=re.escape(name),
      weight_qtype=QTYPES[spec.pinned_bits or bits],
      act_qtype=QTYPES[spec.pinned_bits or bits],
    )
    for name, spec in specs.items()
  ]
  return qwix.quantize_model(model, Provider(rules))


def train(
  experiment: Experiment, trained: Mapping[str, Any], bits: int
) -> tuple[Experiment, dict[str, Any]]:
  """Trains from the float network for the steps of search and finetuning together.

  By the rates of the float phase: kernels are not in grid units here, those of finetuning would be
  too large for them.

  Args:
    experiment: Recipe, data and network.
    trained: The float network's variables.
    bits: Of all layers but the first and the last.

  Returns:
    The experiment with Qwix's network in place of the model, and variables that it reads in mode
    "float".
  """
  recipe = experiment.recipe
  phase = dataclasses.replace(
    recipe.train,
    name=f"qwix-int{bits}",
    steps=recipe.search.steps + recipe.finetune.steps,
    optimizer=dataclasses.replace(recipe.train.optimizer, end_fraction=None),
  )
  run = dataclasses.replace(
    experiment.run, model=quantized_model(experiment.run.model, experiment.run.specs, bits)
  )
  start = {k: v for k, v in trained.items() if k in ("params", "batch_stats")}
  variables = run.train(phase, lambda: start).variables
  return dataclasses.replace(experiment, run=run), variables


def packed_bytes(experiment: Experiment, trained: Mapping[str, Any], bits: int) -> int:
  """Bytes of a hetjax file with one level everywhere, as Qwix has no packed one."""
  codes = 0
  for spec in experiment.run.specs.values():
    palette = spec.palette if spec.pinned_bits else Palette((bits,))
    codes += int(file_bytes([spec.in_channels], dataclasses.replace(spec, palette=palette)))
  return codes + overhead_bytes(experiment, trained)
