"""What a precision is: palettes, quantizers, precision pytrees, assignments (the ground floor)."""

from hetjax.core.assignment import Assignment
from hetjax.core.layers import LayerSpec
from hetjax.core.palette import Palette

__all__ = ["Assignment", "LayerSpec", "Palette"]
