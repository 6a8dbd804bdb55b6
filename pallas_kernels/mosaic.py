"""The implementation "mosaic_gpu": Hopper's own matrix product, for the rest Triton's kernels."""

from __future__ import annotations

import functools

from pallas_kernels import call
from pallas_kernels.layout import MOSAIC

quantize_pack = call.quantize_pack
conv_accumulator = functools.partial(call.conv_accumulator, storage=MOSAIC)
relayout = functools.partial(call.relayout, storage=MOSAIC)
