"""What the convolutional networks share."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn

from hetjax import nn as hnn


def conv_and_norm(common: Mapping[str, Any], train: bool) -> tuple[Callable, Callable]:
  """The convolution (without bias) and the batch norm that a network hands to its blocks.

  Args:
    common: Arguments of every quantized layer: palette, mode, implementation.
    train: Whether norms use and update the batch's statistics.

  Returns:
    Constructors of `hetjax.nn.Conv` and `flax.linen.BatchNorm`, what is common filled in.
  """
  conv = functools.partial(
    hnn.Conv, use_bias=False, kernel_init=nn.initializers.he_normal(), **common
  )
  norm = functools.partial(nn.BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-5)
  return conv, norm
