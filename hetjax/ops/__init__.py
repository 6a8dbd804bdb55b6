"""Operations on packed tensors: contract, references, one binding per backend, dispatch."""

from hetjax.ops.api import packed_conv, packed_matmul, prepare_weights, quantize_pack
from hetjax.ops.dispatch import IMPLEMENTATIONS, ImplementationUnavailable, implementations
from hetjax.ops.fused import Requantize, fused_conv, fused_matmul

__all__ = [
  "IMPLEMENTATIONS",
  "ImplementationUnavailable",
  "Requantize",
  "fused_conv",
  "fused_matmul",
  "implementations",
  "packed_conv",
  "packed_matmul",
  "prepare_weights",
  "quantize_pack",
]
