"""Which pixels a convolution's taps read, computed within a kernel."""

from __future__ import annotations

import dataclasses

from jax import lax
from jaxtyping import Array, Bool, Int32

from hetjax.core.geometry import Pads, output_size


@dataclasses.dataclass(frozen=True)
class Geometry:
  """A convolution over images whose pixels are rows of a matrix, batch, height, width in order.

  Attributes:
    batch: Images.
    image: Height and width.
    kernel: Of the window, undilated.
    strides: Of the window.
    padding: ((top, bottom), (left, right)).
    dilation: Of the kernel.
  """

  batch: int
  image: tuple[int, int]
  kernel: tuple[int, int]
  strides: tuple[int, int]
  padding: Pads
  dilation: tuple[int, int]

  @property
  def out(self) -> tuple[int, int]:
    """Height and width of the result."""
    return output_size(self.image, self.kernel, self.strides, self.padding, self.dilation)

  @property
  def rows(self) -> int:
    """Pixels of the result, of all images."""
    return self.batch * self.out[0] * self.out[1]

  @property
  def taps(self) -> int:
    """Pixels of a window."""
    return self.kernel[0] * self.kernel[1]

  @property
  def is_matrix(self) -> bool:
    """Whether the result's row i reads row i and no other."""
    return self.taps == 1 and self.strides == (1, 1) and self.padding == ((0, 0), (0, 0))

  def row_of(
    self, m: Int32[Array, "*m"], tap: Int32[Array, ""] | int
  ) -> tuple[Int32[Array, "*m"], Bool[Array, "*m"]]:
    """The row that a tap of the result's row `m` reads, and whether it lies in the image at all."""
    real = m < self.rows
    if self.is_matrix:
      return m, real
    height, width = self.out
    over, x = lax.div(m, width), lax.rem(m, width)
    image, y = lax.div(over, height), lax.rem(over, height)
    dy, dx = lax.div(tap, self.kernel[1]), lax.rem(tap, self.kernel[1])
    y = y * self.strides[0] + dy * self.dilation[0] - self.padding[0][0]
    x = x * self.strides[1] + dx * self.dilation[1] - self.padding[1][0]
    inside = real & (y >= 0) & (y < self.image[0]) & (x >= 0) & (x < self.image[1])
    return (image * self.image[0] + y) * self.image[1] + x, inside
