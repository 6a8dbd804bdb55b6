// Float32 kernels in what compilers make of vectors of 16 bytes.
#include "float_kernels.h"

namespace hetjax {
namespace {

#include "inline.inc"

typedef float Vector __attribute__((vector_size(16)));

// This file is compiled with contraction: one instruction where there is one.
template <typename V>
HETJAX_INLINE void AddProduct(V a, V b, V* sum) {
  *sum += a * b;
}
HETJAX_INLINE void Spread(float x, Vector* to) { *to = Vector{x, x, x, x}; }
HETJAX_INLINE void Spread(float x, float* to) { *to = x; }

#include "float_kernels.inc"

}  // namespace

const FloatKernels* GenericFloatKernels() { return &kFloatTable; }

}  // namespace hetjax
