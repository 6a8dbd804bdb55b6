"""Static description of a quantized layer: all that regularizers, costs and packing need."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from hetjax.core.palette import Palette


@dataclasses.dataclass(frozen=True)
class LayerSpec:
  """One quantized layer of a model as traced on one example.

  Attributes:
    name: Path of the module in the variables, joined by "/", e.g. "stage1_block0/conv1".
    kernel_shape: `(kh, kw, in_channels // groups, out_channels)`; a dense layer is a 1x1 kernel.
    groups: Feature group count; 1 for a dense layer.
    palette: The levels its channels may have.
    signed: Whether its input activations are signed.
    pinned_bits: The one level of a pinned layer (its palette is then that single level), or None.
    positions: Output positions per example (height x width of the output; 1 for a dense layer).
    kind: "conv" or "dense".
  """

  name: str
  kernel_shape: tuple[int, int, int, int]
  groups: int
  palette: Palette
  signed: bool
  pinned_bits: int | None
  positions: int
  kind: str = "conv"

  @property
  def in_channels(self) -> int:
    """Input channels C, each with a precision of its own."""
    return self.kernel_shape[2] * self.groups

  @property
  def out_channels(self) -> int:
    """Output channels N."""
    return self.kernel_shape[3]

  @property
  def taps(self) -> int:
    """Kernel positions, `kh * kw`."""
    return self.kernel_shape[0] * self.kernel_shape[1]

  @property
  def weights_per_channel(self) -> int:
    """Weights that one input channel's precision rules: its taps times its output channels."""
    return self.taps * self.out_channels // self.groups

  @property
  def weights(self) -> int:
    """All weights of the kernel."""
    return math.prod(self.kernel_shape)

  @property
  def macs_per_channel(self) -> int:
    """Multiply-accumulates per example on one input channel (borders counted as interior)."""
    return self.weights_per_channel * self.positions

  @property
  def macs(self) -> int:
    """Multiply-accumulates per example."""
    return self.weights * self.positions


LayerSpecs = Mapping[str, LayerSpec]
