"""Vision transformers (Dosovitskiy et al., 2020, arXiv 2010.11929) without a class token.

Patch embedding and classifier are pinned at 8 bits; the classifier reads the mean over patches.
"""

from __future__ import annotations

import functools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from hetjax import nn as hnn
from hetjax.models.transformer import Encoder


class ViT(Encoder, kw_only=True):
  """An encoder of image patches.

  Attributes: those of `Encoder`, and
    classes: Outputs.
    patch: Height and width of a patch. Positions are learned for the image size at initialization.
  """

  classes: int = 10
  patch: int = 4

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b h w c"],
    *,
    mode: str = "float",
    train: bool = False,
    implementation: str | None = None,
  ) -> Float[Array, "b classes"]:
    """Logits; arguments as those of `Transformer`."""
    del train
    self.check()
    if self.patch < 1 or x.shape[1] % self.patch or x.shape[2] % self.patch:
      raise ValueError(f"patch must divide images of {x.shape[1:3]}, got {self.patch}")
    common = self.common(mode, implementation)
    x = hnn.Conv(
      self.width,
      self.patch,
      self.patch,
      padding="VALID",
      name="embed",
      **common | {"pinned_bits": self.pinned_bits},
    )(x)
    b, h, w, d = x.shape
    x = self.encode(x.reshape(b, h * w, d), h * w, common)
    return self.classify(jnp.mean(x, axis=1), self.classes, common)


_IMAGENET = {"patch": 16, "depth": 12, "classes": 1000}
vit_tiny = functools.partial(ViT, width=192, heads=3, **_IMAGENET)
vit_small = functools.partial(ViT, width=384, heads=6, **_IMAGENET)
