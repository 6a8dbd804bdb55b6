"""Kernels of the packed network for NVIDIA GPUs, in Pallas.

They belong to the implementation "triton" of `hetjax.ops`: Pallas kernels lowered by Triton, for
every GPU from Ampere (compute capability 8.0) on. Wherever there is no such GPU they can be
interpreted, slowly and with the same numbers: `interpreted`.
"""

from pallas_kernels.support import LEAST_KIND, TRITON_CALL, available, interpreted, lowering_for

__all__ = ["LEAST_KIND", "TRITON_CALL", "available", "interpreted", "lowering_for"]
