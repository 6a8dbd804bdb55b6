// AVX2 kernels, exact on machines without VNNI.
#include "kernels.h"

#include <immintrin.h>

namespace hetjax {
namespace {

#include "kernels_common.inc"

// Vectors of eight outputs worked on at once: two by four pixels fill the sixteen registers.
constexpr int kVectors = 2;
constexpr uint32_t kNibbles = 0x0f0f0f0fu;

inline __m256i Load(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}

inline __m256i Broadcast(uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }

inline const uint8_t* Weights(const Tile& t, int32_t unit, int vector) {
  return t.weights + static_cast<int64_t>(t.weight_units[unit]) * kUnitBytes + 32 * vector;
}

// sums += factor * raw for eight outputs of one pixel.
inline void Add(const Tile& t, int pixel, int vector, __m256i raw) {
  uint32_t* sums = t.sums + pixel * kBlock + 8 * vector;
  const __m256i scaled = _mm256_mullo_epi32(raw, Broadcast(t.factor));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums), _mm256_add_epi32(Load(sums), scaled));
}

// A unit adds at most 8 to a byte's count, so 31 units stay below 256.
constexpr int kBitUnits = 31;

// Counts set bits by table look-up of nibbles. Splitting words into nibbles first lets the pixels
// of the tile share the work on the weights.
template <int kPixels, bool kAnd>
void CountTile(const Tile& t) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2,
                                         1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i mask = Broadcast(kNibbles);
  const __m256i ones8 = _mm256_set1_epi8(1);
  const __m256i ones16 = _mm256_set1_epi16(1);
  uint32_t low[kBitUnits][kPixels], high[kBitUnits][kPixels];
  for (int32_t begin = 0; begin < t.count; begin += kBitUnits) {
    const int32_t units = t.count - begin < kBitUnits ? t.count - begin : kBitUnits;
    for (int32_t u = 0; u < units; ++u) {
      for (int i = 0; i < kPixels; ++i) {
        const uint32_t a = t.rows[t.base[i] + t.row_units[begin + u]];
        low[u][i] = a & kNibbles;
        high[u][i] = a >> 4 & kNibbles;
      }
    }
    for (int v = 0; v < kBlock / 8; v += kVectors) {
      __m256i counts[kPixels][kVectors];
      for (int i = 0; i < kPixels; ++i) {
        for (int j = 0; j < kVectors; ++j) counts[i][j] = _mm256_setzero_si256();
      }
      for (int32_t u = 0; u < units; ++u) {
        const uint8_t* w = Weights(t, begin + u, v);
        __m256i w_low[kVectors], w_high[kVectors];
        for (int j = 0; j < kVectors; ++j) {
          const __m256i word = Load(w + 32 * j);
          w_low[j] = _mm256_and_si256(word, mask);
          w_high[j] = _mm256_and_si256(_mm256_srli_epi32(word, 4), mask);
        }
        for (int i = 0; i < kPixels; ++i) {
          const __m256i a_low = Broadcast(low[u][i]), a_high = Broadcast(high[u][i]);
          for (int j = 0; j < kVectors; ++j) {
            const __m256i x = kAnd ? _mm256_and_si256(a_low, w_low[j])
                                   : _mm256_xor_si256(a_low, w_low[j]);
            const __m256i y = kAnd ? _mm256_and_si256(a_high, w_high[j])
                                   : _mm256_xor_si256(a_high, w_high[j]);
            counts[i][j] = _mm256_add_epi8(counts[i][j], _mm256_shuffle_epi8(table, x));
            counts[i][j] = _mm256_add_epi8(counts[i][j], _mm256_shuffle_epi8(table, y));
          }
        }
      }
      for (int i = 0; i < kPixels; ++i) {
        for (int j = 0; j < kVectors; ++j) {
          const __m256i pairs = _mm256_maddubs_epi16(counts[i][j], ones8);
          Add(t, i, v + j, _mm256_madd_epi16(pairs, ones16));
        }
      }
    }
  }
}

// maddubs adds two products of at most 15 * 15: 64 units stay below 64 * 450 < 2^15.
constexpr int kDotUnits = 64;

template <int kPixels>
void DotSmallTile(const Tile& t) {
  const __m256i ones16 = _mm256_set1_epi16(1);
  uint32_t codes[kDotUnits][kPixels];
  for (int32_t begin = 0; begin < t.count; begin += kDotUnits) {
    const int32_t units = t.count - begin < kDotUnits ? t.count - begin : kDotUnits;
    for (int32_t u = 0; u < units; ++u) {
      for (int i = 0; i < kPixels; ++i) codes[u][i] = t.rows[t.base[i] + t.row_units[begin + u]];
    }
    for (int v = 0; v < kBlock / 8; v += kVectors) {
      __m256i pairs[kPixels][kVectors];
      for (int i = 0; i < kPixels; ++i) {
        for (int j = 0; j < kVectors; ++j) pairs[i][j] = _mm256_setzero_si256();
      }
      for (int32_t u = 0; u < units; ++u) {
        const uint8_t* w = Weights(t, begin + u, v);
        __m256i word[kVectors];
        for (int j = 0; j < kVectors; ++j) word[j] = Load(w + 32 * j);
        for (int i = 0; i < kPixels; ++i) {
          const __m256i a = Broadcast(codes[u][i]);
          for (int j = 0; j < kVectors; ++j) {
            pairs[i][j] = _mm256_add_epi16(pairs[i][j], _mm256_maddubs_epi16(a, word[j]));
          }
        }
      }
      for (int i = 0; i < kPixels; ++i) {
        for (int j = 0; j < kVectors; ++j) {
          Add(t, i, v + j, _mm256_madd_epi16(pairs[i][j], ones16));
        }
      }
    }
  }
}

// maddubs would saturate: widen to 16 bits, even and odd bytes apart.
template <int kPixels>
void DotWideTile(const Tile& t) {
  uint32_t even[kDotUnits][kPixels], odd[kDotUnits][kPixels];
  for (int32_t begin = 0; begin < t.count; begin += kDotUnits) {
    const int32_t units = t.count - begin < kDotUnits ? t.count - begin : kDotUnits;
    for (int32_t u = 0; u < units; ++u) {
      for (int i = 0; i < kPixels; ++i) {
        const uint32_t a = t.rows[t.base[i] + t.row_units[begin + u]];
        even[u][i] = a & 0x00ff00ffu;
        odd[u][i] = a >> 8 & 0x00ff00ffu;
      }
    }
    for (int v = 0; v < kBlock / 8; v += kVectors) {
      __m256i sums[kPixels][kVectors];
      for (int i = 0; i < kPixels; ++i) {
        for (int j = 0; j < kVectors; ++j) sums[i][j] = _mm256_setzero_si256();
      }
      for (int32_t u = 0; u < units; ++u) {
        const uint8_t* w = Weights(t, begin + u, v);
        __m256i w_even[kVectors], w_odd[kVectors];
        for (int j = 0; j < kVectors; ++j) {
          const __m256i word = Load(w + 32 * j);
          w_even[j] = _mm256_srai_epi16(_mm256_slli_epi16(word, 8), 8);
          w_odd[j] = _mm256_srai_epi16(word, 8);
        }
        for (int i = 0; i < kPixels; ++i) {
          const __m256i a_even = Broadcast(even[u][i]), a_odd = Broadcast(odd[u][i]);
          for (int j = 0; j < kVectors; ++j) {
            sums[i][j] = _mm256_add_epi32(sums[i][j], _mm256_madd_epi16(a_even, w_even[j]));
            sums[i][j] = _mm256_add_epi32(sums[i][j], _mm256_madd_epi16(a_odd, w_odd[j]));
          }
        }
      }
      for (int i = 0; i < kPixels; ++i) {
        for (int j = 0; j < kVectors; ++j) Add(t, i, v + j, sums[i][j]);
      }
    }
  }
}

template <void (*kOne)(const Tile&), void (*kTwo)(const Tile&), void (*kThree)(const Tile&),
          void (*kFour)(const Tile&)>
void ByPixels(const Tile& t) {
  switch (t.pixels) {
    case 1: return kOne(t);
    case 2: return kTwo(t);
    case 3: return kThree(t);
    default: return kFour(t);
  }
}

const Kernels kKernels = {
    "avx2",
    ByPixels<CountTile<1, false>, CountTile<2, false>, CountTile<3, false>, CountTile<4, false>>,
    ByPixels<CountTile<1, true>, CountTile<2, true>, CountTile<3, true>, CountTile<4, true>>,
    ByPixels<DotSmallTile<1>, DotSmallTile<2>, DotSmallTile<3>, DotSmallTile<4>>,
    ByPixels<DotWideTile<1>, DotWideTile<2>, DotWideTile<3>, DotWideTile<4>>,
    Depthwise,
    Epilogue,
    Encode,
};

}  // namespace

const Kernels* Avx2Kernels() { return &kKernels; }

}  // namespace hetjax
