"""What the convolutional networks share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn

from hetjax import nn as hnn
from hetjax.core import Palette


def stage_palettes(palette: Palette | Sequence[Palette], stages: int) -> tuple[Palette, ...]:
  """A palette for each stage of a network.

  Args:
    palette: One for all, or one for each.
    stages: How many there are.

  Raises:
    ValueError: there is neither one palette nor one for every stage.
  """
  if isinstance(palette, Palette):
    return (palette,) * stages
  if len(palette) != stages:
    raise ValueError(f"palette must be one or one for each of {stages} stages, got {len(palette)}")
  return tuple(palette)


def conv_and_norm(common: Mapping[str, Any], train: bool) -> tuple[Callable, Callable]:
  """The convolution (without bias) and the batch norm that a network hands to its blocks.

  Args:
    common: Arguments of every quantized layer: mode, implementation, and a palette or none yet.
    train: Whether norms use and update the batch's statistics.

  Returns:
    Constructors of `hetjax.nn.Conv` and `flax.linen.BatchNorm`, what is common filled in.
  """
  conv = functools.partial(
    hnn.Conv, use_bias=False, kernel_init=nn.initializers.he_normal(), **common
  )
  norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-5)
  return conv, norm
