"""What the same network takes in float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from hetjax.core.precision import set_path
from hetjax.pack.artifact import Artifact
from hetjax.pack.writer import float32_bytes


def float32_file_bytes(artifact: Artifact) -> int:
  """Bytes of the float32 safetensors file of an artifact's network, header included.

  Kernels, biases and all other leaves in full; alpha and beta do not exist there.
  """
  tree: dict[str, Any] = {}
  for name, layer in artifact.layers.items():
    spec = layer.spec
    shape = spec.kernel_shape[2:] if spec.kind == "dense" else spec.kernel_shape
    tree = set_path(tree, f"params/{name}/kernel", np.zeros(shape, np.float32))
    if layer.bias is not None:
      tree = set_path(tree, f"params/{name}/bias", layer.bias)
  for path, value in artifact.tensors.items():
    tree = set_path(tree, path, value)
  return float32_bytes(tree)
