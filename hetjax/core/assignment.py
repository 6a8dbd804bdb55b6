"""Levels given to channels: integer bits per input channel, by layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from hetjax.core.layers import LayerSpecs


@dataclasses.dataclass(frozen=True, eq=False)
class Assignment:
  """Bits of every input channel of every quantized layer.

  Attributes:
    bits: Layer name -> int8[in_channels]; pinned layers hold their pinned level.
  """

  bits: Mapping[str, np.ndarray]

  @classmethod
  def create(cls, specs: LayerSpecs, bits: Mapping[str, np.ndarray]) -> Assignment:
    """Checks `bits` against `specs`; pinned layers may be left out and are filled in.

    Raises:
      ValueError: a layer is missing or unknown, a length differs from the layer's input channels,
        or a value is not in the layer's palette.
    """
    unknown = sorted(set(bits) - set(specs))
    if unknown:
      raise ValueError(f"assignment names layers the model does not have: {unknown}")
    checked = {}
    for name, spec in specs.items():
      if name in bits:
        value = np.asarray(bits[name])
      elif spec.pinned_bits is not None:
        value = np.full(spec.in_channels, spec.pinned_bits)
      else:
        raise ValueError(f"assignment lacks layer {name!r}")
      if value.shape != (spec.in_channels,):
        raise ValueError(
          f"assignment of {name!r} must have shape ({spec.in_channels},), got {value.shape}"
        )
      if not np.isin(value, spec.palette.levels).all():
        raise ValueError(
          f"assignment of {name!r} must use levels {spec.palette.levels}, "
          f"got {np.unique(value).tolist()}"
        )
      checked[name] = value.astype(np.int8)
    return cls(checked)

  @classmethod
  def uniform(cls, specs: LayerSpecs, level: int) -> Assignment:
    """Every channel of every layer that is not pinned at `level` bits."""
    free = {n: np.full(s.in_channels, level) for n, s in specs.items() if s.pinned_bits is None}
    return cls.create(specs, free)

  def __eq__(self, other: object) -> bool:
    if not isinstance(other, Assignment):
      return NotImplemented
    return set(self.bits) == set(other.bits) and all(
      np.array_equal(self.bits[n], other.bits[n]) for n in self.bits
    )

  def counts(self, name: str) -> dict[int, int]:
    """Channels of layer `name` at each level that occurs, highest level first."""
    levels, counts = np.unique(self.bits[name], return_counts=True)
    return {int(p): int(c) for p, c in zip(levels[::-1], counts[::-1], strict=True)}
