"""LeNets (LeCun et al., 1998), as compression is often measured on them (Han et al., 2015).

A hidden layer reads every place of every feature map, or every pixel, by an input channel of its
own, and so learns where in the image bits are worth something. Convolutions and hidden layers are
batch-normed and rectified, which the networks of 1998 were not. The first convolution and the
classifier are pinned at 8 bits; a hidden layer that reads pixels is not.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from hetjax import nn as hnn
from hetjax.core import Palette
from hetjax.models.parts import conv_and_norm, stage_palettes


def halved(x: Float[Array, "b h w c"]) -> Float[Array, "b h//2 w//2 c"]:
  """The maximum of every 2x2 positions; an odd last row or column is left out.

  As flax.linen.max_pool with windows and strides of two, by slices: on CPU the gradient of XLA's
  windowed maximum takes longer than the network's convolutions.
  """
  x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
  return functools.reduce(jnp.maximum, (x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)))


class LeNet(nn.Module):
  """Convolutions with 2x2 max pooling, then hidden layers over all that is left of the image.

  Attributes:
    features: Channels of the convolutions, which are not padded; none for a perceptron of pixels.
    hidden: Units of the hidden layers.
    kernel: Height and width of the convolutions.
    classes: Outputs.
    palette: Levels of the layers that are not pinned: one palette, or one for every convolution and
      hidden layer.
    pinned_bits: Level of first convolution and classifier.
  """

  features: Sequence[int] = (20, 50)
  hidden: Sequence[int] = (500,)
  kernel: int = 5
  classes: int = 10
  palette: Palette | Sequence[Palette] = Palette()
  pinned_bits: int = 8

  @property
  def blocks(self) -> int:
    """Convolutions and hidden layers."""
    return len(self.features) + len(self.hidden)

  @nn.compact
  def __call__(
    self,
    x: Float[Array, "b h w c"],
    *,
    mode: str = "float",
    train: bool = False,
    implementation: str | None = None,
  ) -> Float[Array, "b classes"]:
    """Logits.

    Args:
      x: Normalised images.
      mode: Mode of all quantized layers, see `nn.quantized`.
      train: Whether batch norms use and update the batch's statistics.
      implementation: Of the packed ops.

    Raises:
      ValueError: attributes that are not positive, no layer but the classifier, or images that are
        smaller than the convolutions.
    """
    for field in ("features", "hidden"):
      if any(size < 1 for size in getattr(self, field)):
        raise ValueError(f"{field} must be positive, got {getattr(self, field)}")
    if self.kernel < 1:
      raise ValueError(f"kernel must be positive, got {self.kernel}")
    if not self.blocks:
      raise ValueError("features and hidden must name a layer, got none")
    palettes = stage_palettes(self.palette, self.blocks)
    common = {"mode": mode, "implementation": implementation}
    conv, norm = conv_and_norm(common, train)
    for index, channels in enumerate(self.features):
      if min(x.shape[1:3]) < self.kernel + 1:
        raise ValueError(
          f"kernel must leave pixels to pool, got {self.kernel} for {x.shape[1]}x{x.shape[2]} "
          f"at convolution {index}"
        )
      x = conv(
        channels,
        self.kernel,
        padding=0,
        signed=index == 0,
        palette=palettes[index],
        pinned_bits=self.pinned_bits if index == 0 else None,
        name=f"conv{index}",
      )(x)
      x = nn.relu(norm(name=f"conv{index}_norm")(x))
      x = halved(x)
    x = x.reshape(x.shape[0], -1)
    for index, units in enumerate(self.hidden):
      x = hnn.Dense(
        units,
        use_bias=False,
        kernel_init=nn.initializers.he_normal(),
        signed=not self.features and index == 0,
        palette=palettes[len(self.features) + index],
        name=f"hidden{index}",
        **common,
      )(x)
      x = nn.relu(norm(name=f"hidden{index}_norm")(x))
    return hnn.Dense(self.classes, pinned_bits=self.pinned_bits, name="head", **common)(x)


lenet_300_100 = functools.partial(LeNet, features=(), hidden=(300, 100))
