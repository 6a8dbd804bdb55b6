// Float32 kernels for AVX-512.
#include "float_kernels.h"

#include <immintrin.h>

namespace hetjax {
namespace {

#include "inline.inc"

typedef __m512 Vector;

// This file is compiled with contraction: one instruction.
HETJAX_INLINE void AddProduct(Vector a, Vector b, Vector* sum) { *sum += a * b; }
HETJAX_INLINE void Spread(float x, Vector* to) { *to = _mm512_set1_ps(x); }

struct Part {
  __mmask16 mask;
  explicit Part(int64_t lanes) : mask(static_cast<__mmask16>((1u << lanes) - 1)) {}
  HETJAX_INLINE Vector Load(const float* p) const { return _mm512_maskz_loadu_ps(mask, p); }
  HETJAX_INLINE void Store(float* p, Vector v) const { _mm512_mask_storeu_ps(p, mask, v); }
};

#include "float_kernels.inc"

}  // namespace

const FloatKernels* Avx512FloatKernels() { return &kFloatTable; }

}  // namespace hetjax
