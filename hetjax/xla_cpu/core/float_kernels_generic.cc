// Float32 kernels in what compilers make of vectors of 16 bytes.
#include "float_kernels.h"

namespace hetjax {
namespace {

#include "inline.inc"

typedef float Vector __attribute__((vector_size(16)));

// This file is compiled with contraction: one instruction where there is one.
HETJAX_INLINE void AddProduct(Vector a, Vector b, Vector* sum) { *sum += a * b; }
HETJAX_INLINE void Spread(float x, Vector* to) { *to = Vector{x, x, x, x}; }

struct Part {
  int64_t lanes;
  explicit Part(int64_t count) : lanes(count) {}
  HETJAX_INLINE Vector Load(const float* p) const {
    Vector v = {};
    for (int64_t i = 0; i < lanes; ++i) v[i] = p[i];
    return v;
  }
  HETJAX_INLINE void Store(float* p, Vector v) const {
    for (int64_t i = 0; i < lanes; ++i) p[i] = v[i];
  }
};

#include "float_kernels.inc"

}  // namespace

const FloatKernels* GenericFloatKernels() { return &kFloatTable; }

}  // namespace hetjax
