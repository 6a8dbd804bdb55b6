"""What the same network takes in float32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from hetjax.core.precision import set_path
from hetjax.pack.artifact import Artifact
from hetjax.pack.writer import float32_bytes


def float32_file_bytes(artifact: Artifact) -> int:
  """Bytes of the float32 safetensors file of an artifact's network, header included.

  Kernels, biases and all other leaves in full; alpha and beta do not exist there. Nor do norms that
  compute nothing, as `nn.slim` leaves them: what they did is in biases, which are counted. A
  checkpoint from before that is somewhat larger.
  """
  tree: dict[str, Any] = {}
  for name, layer in artifact.layers.items():
    spec = layer.spec
    shape = spec.kernel_shape[2:] if spec.kind == "dense" else spec.kernel_shape
    tree = set_path(tree, f"params/{name}/kernel", np.zeros(shape, np.float32))
    if layer.bias is not None:
      tree = set_path(tree, f"params/{name}/bias", layer.bias)
  idle = {leaf for norm in _idle_norms(artifact.tensors) for leaf in norm}
  for path, value in artifact.tensors.items():
    if path not in idle:
      tree = set_path(tree, path, value)
  return float32_bytes(tree)


def _idle_norms(tensors: Mapping[str, np.ndarray]) -> Iterator[list[str]]:
  """Paths of the leaves of every norm that divides by what it multiplies with and adds nothing."""
  for path in tensors:
    norm = path.removeprefix("batch_stats/").removesuffix("/mean")
    stats, params = f"batch_stats/{norm}", f"params/{norm}"
    leaves = [f"{stats}/mean", f"{stats}/var", f"{params}/scale", f"{params}/bias"]
    if path != leaves[0] or not all(leaf in tensors for leaf in leaves):
      continue
    mean, variance, scale, bias = (tensors[leaf].astype(np.float32) for leaf in leaves)
    # A variance of 1 is one that no training has touched.
    is_idle = (scale * scale == variance).all() and (variance > 1).all()
    if is_idle and not mean.any() and not bias.any():
      yield leaves
