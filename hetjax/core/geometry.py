"""Window geometry of 2-D convolutions: strides, padding, output sizes. No arrays."""

from __future__ import annotations

from collections.abc import Sequence

from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]


def pair(value: int | Sequence[int], name: str) -> tuple[int, int]:
  """An int, or one or two ints, as a pair of positive ints (one value serves both axes)."""
  values = (value,) if isinstance(value, int) else tuple(value)
  if len(values) == 1:
    values = values * 2
  if len(values) != 2 or any(isinstance(v, bool) or int(v) != v or v < 1 for v in values):
    raise ValueError(f"{name} must be one or two positive integers, got {value!r}")
  return int(values[0]), int(values[1])


def explicit_padding(
  padding: str | int | Sequence[int | tuple[int, int]],
  image: tuple[int, int],
  kernel: tuple[int, int],
  strides: tuple[int, int],
  dilation: tuple[int, int],
) -> Pads:
  """Padding as ((top, bottom), (left, right)).

  Args:
    padding: "SAME", "SAME_LOWER", "VALID", an int for all sides, or two entries that are each an
      int or a (low, high) pair.
    image: Input height and width.
    kernel: Kernel height and width, undilated.
    strides: Window strides.
    dilation: Kernel dilation.

  Raises:
    ValueError: an unknown name, a negative or malformed entry.
  """
  if isinstance(padding, str):
    if padding.upper() not in ("SAME", "SAME_LOWER", "VALID"):
      raise ValueError(
        f"padding must be 'SAME', 'SAME_LOWER', 'VALID' or explicit integers, got {padding!r}"
      )
    extent = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    pads = lax.padtype_to_pads(image, extent, strides, padding.upper())
    return tuple((int(lo), int(hi)) for lo, hi in pads)
  entries = (padding, padding) if isinstance(padding, int) else tuple(padding)
  if len(entries) == 1:
    entries = entries * 2
  pads = tuple((p, p) if isinstance(p, int) else tuple(p) for p in entries)
  if len(pads) != 2 or any(len(p) != 2 or any(int(v) != v or v < 0 for v in p) for p in pads):
    raise ValueError(f"padding must be two non-negative (low, high) pairs, got {padding!r}")
  return tuple((int(lo), int(hi)) for lo, hi in pads)


def output_size(
  image: tuple[int, int],
  kernel: tuple[int, int],
  strides: tuple[int, int],
  pads: Pads,
  dilation: tuple[int, int],
) -> tuple[int, int]:
  """Output height and width of a convolution; 0 where the kernel does not fit."""
  out = []
  for size, k, s, (lo, hi), d in zip(image, kernel, strides, pads, dilation, strict=True):
    out.append(max(0, (size + lo + hi - (d * (k - 1) + 1)) // s + 1))
  return out[0], out[1]
