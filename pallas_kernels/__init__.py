"""Kernels of the packed network for NVIDIA GPUs, in Pallas.

They belong to two implementations of `hetjax.ops`: "triton", Pallas kernels lowered by Triton, for
every GPU from Ampere (compute capability 8.0) on; and "mosaic_gpu", with a matrix product for
Hopper (9.0). Wherever there is no such GPU they can be interpreted, slowly and with the same
numbers: `interpreted`.
"""

from pallas_kernels.support import CALLS, CHIPS, available, interpreted, lowering_for

__all__ = ["CALLS", "CHIPS", "available", "interpreted", "lowering_for"]
