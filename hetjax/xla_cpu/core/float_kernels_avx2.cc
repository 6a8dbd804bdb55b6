// Float32 kernels for AVX2 with FMA; those for AVX-512 machines too.
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
HETJAX_INLINE void AddProduct(float a, float b, float* sum) { *sum += a * b; }
HETJAX_INLINE void Spread(float x, Vector* to) { *to = _mm256_set1_ps(x); }
HETJAX_INLINE void Spread(float x, float* to) { *to = x; }

#include "float_kernels.inc"

}  // namespace

const FloatKernels* Avx2FloatKernels() { return &kFloatTable; }

}  // namespace hetjax
