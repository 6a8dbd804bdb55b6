// Portable kernels: what the others must equal.
#include "kernels.h"

namespace hetjax {
namespace {

#include "kernels_common.inc"

uint32_t Count(uint32_t x) { return static_cast<uint32_t>(__builtin_popcount(x)); }
uint32_t Differing(uint32_t a, uint32_t w) { return Count(a ^ w); }
uint32_t Common(uint32_t a, uint32_t w) { return Count(a & w); }

uint32_t Dot(uint32_t a, uint32_t w) {
  int32_t sum = 0;
  for (int i = 0; i < 4; ++i) {
    sum += static_cast<int32_t>(a >> 8 * i & 0xff) * static_cast<int8_t>(w >> 8 * i & 0xff);
  }
  return static_cast<uint32_t>(sum);
}

template <uint32_t (*kRaw)(uint32_t, uint32_t)>
void Accumulate(const Tile& t) {
  for (int32_t i = 0; i < t.pixels; ++i) {
    uint32_t* sums = t.sums + i * kBlock;
    for (int32_t u = 0; u < t.count; ++u) {
      const uint32_t a = t.rows[t.base[i] + t.row_units[u]];
      const uint8_t* unit = t.weights + static_cast<int64_t>(t.weight_units[u]) * kUnitBytes;
      for (int n = 0; n < kBlock; ++n) {
        uint32_t w;
        __builtin_memcpy(&w, unit + 4 * n, 4);
        sums[n] += t.factor * kRaw(a, w);
      }
    }
  }
}

const Kernels kKernels = {
    "scalar",         Accumulate<Differing>, Accumulate<Common>, Accumulate<Dot>,
    Accumulate<Dot>,  Depthwise,             Epilogue,           Encode,
};

}  // namespace

const Kernels* ScalarKernels() { return &kKernels; }

}  // namespace hetjax
