// AVX-512 kernels: VNNI for dot products, VPOPCNTDQ for bits. A test-only build replaces the
// intrinsics by SIMDe's portable ones (HETJAX_EMULATE_AVX512), so that the logic runs anywhere.
#include "kernels.h"

#ifdef HETJAX_EMULATE_AVX512
#include "avx512_emulated.h"
#else
#include <immintrin.h>
#endif

namespace hetjax {
namespace {

#include "kernels_common.inc"

constexpr int kVectors = kBlock / 16;
// Units whose activations are gathered at once; bounds the stack buffer only.
constexpr int kUnits = 64;

enum class Raw { kDiffering, kCommon, kDot };

template <Raw kRaw>
inline __m512i Accumulate(__m512i sum, __m512i a, __m512i w) {
  if (kRaw == Raw::kDot) return _mm512_dpbusd_epi32(sum, a, w);
  const __m512i x = kRaw == Raw::kCommon ? _mm512_and_si512(a, w) : _mm512_xor_si512(a, w);
  return _mm512_add_epi32(sum, _mm512_popcnt_epi32(x));
}

template <Raw kRaw, int kPixels>
void RunTile(const Tile& t) {
  const __m512i factor = _mm512_set1_epi32(static_cast<int>(t.factor));
  uint32_t codes[kUnits][kPixels];
  for (int32_t begin = 0; begin < t.count; begin += kUnits) {
    const int32_t units = t.count - begin < kUnits ? t.count - begin : kUnits;
    for (int32_t u = 0; u < units; ++u) {
      for (int i = 0; i < kPixels; ++i) codes[u][i] = t.rows[t.base[i] + t.row_units[begin + u]];
    }
    __m512i raw[kPixels][kVectors];
    for (int i = 0; i < kPixels; ++i) {
      for (int j = 0; j < kVectors; ++j) raw[i][j] = _mm512_setzero_si512();
    }
    for (int32_t u = 0; u < units; ++u) {
      const uint8_t* w =
          t.weights + static_cast<int64_t>(t.weight_units[begin + u]) * kUnitBytes;
      __m512i word[kVectors];
      for (int j = 0; j < kVectors; ++j) word[j] = _mm512_loadu_si512(w + 64 * j);
      for (int i = 0; i < kPixels; ++i) {
        const __m512i a = _mm512_set1_epi32(static_cast<int>(codes[u][i]));
        for (int j = 0; j < kVectors; ++j) raw[i][j] = Accumulate<kRaw>(raw[i][j], a, word[j]);
      }
    }
    for (int i = 0; i < kPixels; ++i) {
      for (int j = 0; j < kVectors; ++j) {
        uint32_t* sums = t.sums + i * kBlock + 16 * j;
        const __m512i scaled = _mm512_mullo_epi32(raw[i][j], factor);
        _mm512_storeu_si512(sums, _mm512_add_epi32(_mm512_loadu_si512(sums), scaled));
      }
    }
  }
}

template <Raw kRaw>
void ByPixels(const Tile& t) {
  switch (t.pixels) {
    case 1: return RunTile<kRaw, 1>(t);
    case 2: return RunTile<kRaw, 2>(t);
    case 3: return RunTile<kRaw, 3>(t);
    default: return RunTile<kRaw, 4>(t);
  }
}

const Kernels kKernels = {
    "avx512",           ByPixels<Raw::kDiffering>, ByPixels<Raw::kCommon>, ByPixels<Raw::kDot>,
    ByPixels<Raw::kDot>, Depthwise,                Epilogue,               Encode,
};

}  // namespace

const Kernels* Avx512Kernels() { return &kKernels; }

}  // namespace hetjax
