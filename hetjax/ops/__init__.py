"""Operations on packed tensors: contract, references, one binding per backend, dispatch."""

from hetjax.ops.api import packed_conv, packed_matmul, prepare_weights, quantize_pack
from hetjax.ops.dispatch import IMPLEMENTATIONS, ImplementationUnavailable, implementations

__all__ = [
  "IMPLEMENTATIONS",
  "ImplementationUnavailable",
  "implementations",
  "packed_conv",
  "packed_matmul",
  "prepare_weights",
  "quantize_pack",
]
