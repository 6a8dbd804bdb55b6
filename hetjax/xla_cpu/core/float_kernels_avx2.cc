// Float32 kernels for AVX2 with FMA.
#include "float_kernels.h"

#include <immintrin.h>

namespace hetjax {
namespace {

#include "inline.inc"

typedef __m256 Vector;

// In place and in this order: a tile leaves one register free, and the compiler's own order of
// products takes more.
HETJAX_INLINE void AddProduct(Vector a, Vector b, Vector* sum) {
  __asm__("vfmadd231ps %2, %1, %0" : "+x"(*sum) : "x"(a), "x"(b));
}
HETJAX_INLINE void Spread(float x, Vector* to) { *to = _mm256_set1_ps(x); }

struct Part {
  __m256i mask;
  explicit Part(int64_t lanes)
      : mask(_mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(lanes)),
                                _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))) {}
  HETJAX_INLINE Vector Load(const float* p) const { return _mm256_maskload_ps(p, mask); }
  HETJAX_INLINE void Store(float* p, Vector v) const { _mm256_maskstore_ps(p, mask, v); }
};

#include "float_kernels.inc"

}  // namespace

const FloatKernels* Avx2FloatKernels() { return &kFloatTable; }

}  // namespace hetjax
