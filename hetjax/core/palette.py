"""Precision levels and the odd-integer grid they stand for.

For a precision of p bits the grid has spacing `2 * sigma(p)` and the values `sigma(p) * q` with the
odd integers `q = 2u - (2^p - 1)`, `u` being the code `0 .. 2^p - 1`. The definitions are those of
docs/arithmetic.md, a reconstruction consistent with SySMOL (arXiv 2311.14114v2).
"""

from __future__ import annotations

import dataclasses

ALLOWED_LEVELS = (1, 2, 4, 8)
MAX_LEVELS = 3


def sigma(bits: int) -> float:
  """Half the spacing of the `bits`-bit grid, the largest rounding error: `2^(1 - bits)`."""
  return 2.0 ** (1 - bits)


def max_code(bits: int) -> int:
  """The largest code of a `bits`-bit channel, `2^bits - 1`."""
  return (1 << bits) - 1


@dataclasses.dataclass(frozen=True)
class Palette:
  """The precisions a layer may give its input channels: an increasing subset of {1, 2, 4, 8} bits.

  Attributes:
    levels: One to three precisions in bits, strictly increasing.

  Raises:
    ValueError: `levels` is empty, too long, not increasing, or holds a level outside {1, 2, 4, 8}.
  """

  levels: tuple[int, ...] = (1, 2, 4)

  def __post_init__(self):
    if isinstance(self.levels, int) or not hasattr(self.levels, "__iter__"):
      raise ValueError(f"palette levels must be a sequence of bits, got {self.levels!r}")
    levels = tuple(self.levels)
    if not 1 <= len(levels) <= MAX_LEVELS:
      raise ValueError(f"palette levels must hold 1 to {MAX_LEVELS} precisions, got {levels}")
    if any(isinstance(p, bool) or p not in ALLOWED_LEVELS for p in levels):
      raise ValueError(f"palette levels must be among {ALLOWED_LEVELS}, got {levels}")
    if any(a >= b for a, b in zip(levels, levels[1:], strict=False)):
      raise ValueError(f"palette levels must increase strictly, got {levels}")
    object.__setattr__(self, "levels", tuple(int(p) for p in levels))

  @property
  def pmax(self) -> int:
    """The highest precision in bits; accumulators count in units of its smallest product."""
    return self.levels[-1]

  @property
  def pmin(self) -> int:
    """The lowest precision in bits."""
    return self.levels[0]

  @property
  def descending(self) -> tuple[int, ...]:
    """The levels highest first, the order of the packed segments."""
    return self.levels[::-1]

  def multiplier(self, bits: int) -> int:
    """Weight of the integer sum of level `bits` in the accumulator T: `4^(pmax - bits)`."""
    return 4 ** (self.pmax - bits)

  def unit(self, signed: bool) -> float:
    """Value of one accumulator step at `alpha = beta = 1`.

    `4^(1 - pmax)` for signed activations; twice that for unsigned ones, whose values are
    `2 sigma u` instead of `sigma q`. A power of two, so multiplying by it is exact.
    """
    return 4.0 ** (1 - self.pmax) * (1.0 if signed else 2.0)
