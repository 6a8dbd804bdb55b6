"""Writes golden/v1.safetensors and v2.safetensors, checked-in artifacts that must keep loading.

A network of three layers made by formulas: a pinned 8-bit convolution, a grouped one whose second
group has no 4-bit channel, and a dense layer; version 2 has all that is no code in half precision.
Run once for a new version: `python tests/pack/make_golden.py`.
"""

from __future__ import annotations

import pathlib

import numpy as np

from hetjax.core import LayerSpec, Palette
from hetjax.pack import Artifact, ChannelLayout, PackedLayer, narrow, pack_weights, write_artifact

FOLDER = pathlib.Path(__file__).parent / "golden"
PATH, HALF_PATH = FOLDER / "v1.safetensors", FOLDER / "v2.safetensors"


def layer_codes(kernel_shape, groups, bits):
  """Code i of the flat kernel [kh, kw, Cg, N] is `(5 i + i div 7 + 1) mod 2^bits(channel)`."""
  i = np.arange(np.prod(kernel_shape)).reshape(kernel_shape)
  group = np.arange(kernel_shape[3]) // (kernel_shape[3] // groups)
  channel = group[None, :] * kernel_shape[2] + np.arange(kernel_shape[2])[:, None]
  return ((5 * i + i // 7 + 1) % (1 << np.asarray(bits)[channel])).astype(np.uint8)


def layer(name, kernel_shape, bits, *, palette=(1, 2, 4), groups=1, beta, bias=None, **spec):
  """A layer with alpha[n] = (n + 1) / 16."""
  spec.setdefault("signed", False)
  spec.setdefault("pinned_bits", None)
  palette = Palette(palette)
  layout = ChannelLayout(bits, palette, groups)
  return PackedLayer(
    LayerSpec(name=name, kernel_shape=kernel_shape, groups=groups, palette=palette, **spec),
    pack_weights(layer_codes(kernel_shape, groups, bits), layout),
    alpha=((np.arange(kernel_shape[3]) + 1) / 16).astype(np.float32),
    beta=np.float32(beta).reshape(()),
    bias=bias,
  )


def network() -> Artifact:
  """The golden artifact."""
  layers = (
    layer(
      "stem",
      (3, 3, 3, 4),
      (8, 8, 8),
      palette=(8,),
      pinned_bits=8,
      signed=True,
      positions=16,
      beta=0.5,
    ),
    layer("block/conv", (2, 2, 3, 4), (4, 1, 2, 1, 1, 2), groups=2, positions=9, beta=0.25),
    layer(
      "head",
      (1, 1, 5, 3),
      (2, 4, 1, 1, 4),
      positions=1,
      kind="dense",
      beta=2.0,
      bias=np.array([-1, 0, 1], np.float32),
    ),
  )
  four = np.arange(4, dtype=np.float32)
  return Artifact(
    model_name="golden",
    model_config={"width": 4, "name": "three layers", "slope": 0.5, "stages": [1, 2]},
    layers={entry.spec.name: entry for entry in layers},
    tensors={
      "params/stem_norm/scale": four + 1,
      "params/stem_norm/bias": four - 2,
      "batch_stats/stem_norm/mean": four / 4,
      "batch_stats/stem_norm/var": (four + 1) / 2,
      "params/gain": np.array(3, np.float32),
    },
    hetjax_version="0.1.0",
  )


if __name__ == "__main__":
  FOLDER.mkdir(exist_ok=True)
  for path, artifact in ((PATH, network()), (HALF_PATH, narrow(network()))):
    if not path.exists():
      print(f"{write_artifact(path, artifact)} bytes to {path.name}")
