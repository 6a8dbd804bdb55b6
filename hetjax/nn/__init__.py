"""Linen layers that carry precisions, and the conversion of their variables to packed form."""

from hetjax.nn.layers import Conv, Dense
from hetjax.nn.packing import artifact_of, pack_variables, prepare, variables_of
from hetjax.nn.quantized import MODES, QuantizedLayer
from hetjax.nn.slim import slim
from hetjax.nn.trace import layer_specs

__all__ = [
  "MODES",
  "Conv",
  "Dense",
  "QuantizedLayer",
  "artifact_of",
  "layer_specs",
  "pack_variables",
  "prepare",
  "slim",
  "variables_of",
]
