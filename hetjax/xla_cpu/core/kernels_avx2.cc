// AVX2 kernels. Products of 1- and 2-bit codes come from tables of 16 bytes: four bits of an
// activation choose a table, four bits of a weight an entry, so that one vpshufb multiplies and adds
// two or four channels for 32 output channels, and sums of several stay in bytes.
#include "kernels.h"

#include <immintrin.h>

namespace hetjax {
namespace {

#include "kernels_common.inc"

#define HETJAX_INLINE inline __attribute__((always_inline))
#if defined(__clang__)
#define HETJAX_UNROLL _Pragma("clang loop unroll(full)")
#else
#define HETJAX_UNROLL _Pragma("GCC unroll 8")
#endif

constexpr int kTile = 5;
// Look-ups of at most 4 (1 bit) and 18 (2 bits) that a byte holds.
constexpr int kBitUnits = 63;
constexpr int kPairUnits = 14;
// Sums of tables must stay below 2^15 to be factors of vpmaddwd.
constexpr int kTableLimit = 32767;
// Sums of two products of at most 15 * 15 that 16 bits hold.
constexpr int kDotUnits = 72;

// Entry w of row a: raw sums of a unit with codes a and w.
struct Tables {
  alignas(64) uint8_t bits[256];
  alignas(64) uint8_t pairs[256];
};

// At compile time: nothing of this file may run when the library is loaded.
constexpr Tables MakeTables() {
  Tables t = {};
  for (int a = 0; a < 16; ++a) {
    for (int w = 0; w < 16; ++w) {
      const int differ = a ^ w;
      const int low = (2 * (a & 3) - 3) * (2 * (w & 3) - 3);
      const int high = (2 * (a >> 2) - 3) * (2 * (w >> 2) - 3);
      t.bits[16 * a + w] = static_cast<uint8_t>(
          4 - ((differ & 1) + (differ >> 1 & 1) + (differ >> 2 & 1) + (differ >> 3 & 1)));
      t.pairs[16 * a + w] = static_cast<uint8_t>((low + high + 18) / 2);
    }
  }
  return t;
}
constexpr Tables kTables = MakeTables();

inline __m256i Load(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
inline void Store(void* p, __m256i x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }
inline __m256i Broadcast(uint32_t x) { return _mm256_set1_epi32(static_cast<int>(x)); }
inline __m256i BroadcastWord(const uint8_t* p) {
  int32_t word;
  __builtin_memcpy(&word, p, 4);
  return _mm256_set1_epi32(word);
}

// What a tile holds between its levels. Sums of tables are kept as sums of 16-bit lanes (`all`) and
// of their upper bytes (`odd`): odd lanes' sums are `odd`, even lanes' sums all - 256 odd.
template <int kPixels, int kVectors>
struct State {
  __m256i all[kPixels][kVectors];
  __m256i odd[kPixels][kVectors];
  // Where sums so far are: the tile's constants, or `spilled` once something was added to them.
  const uint32_t* base[kPixels];
  bool is_spilled;
  int used;  // the most that a sum of tables can be
  alignas(32) uint32_t spilled[kPixels][kBlock];
};

template <int kPixels, int kVectors>
void StartSpilling(State<kPixels, kVectors>* s) {
  if (s->is_spilled) return;
  s->is_spilled = true;
  for (int i = 0; i < kPixels; ++i) {
    for (int n = 0; n < 32 * kVectors; n += 8) Store(s->spilled[i] + n, Load(s->base[i] + n));
    s->base[i] = s->spilled[i];
  }
}

// Two vectors of eight outputs: low * factors' low halves + high * factors' high halves.
HETJAX_INLINE void Combine(__m256i low, __m256i high, __m256i factors, __m256i* first,
                           __m256i* second) {
  *first = _mm256_madd_epi16(_mm256_unpacklo_epi16(low, high), factors);
  *second = _mm256_madd_epi16(_mm256_unpackhi_epi16(low, high), factors);
}

template <int kPixels, int kVectors>
__attribute__((noinline)) void SpillTables(const Tile& t, State<kPixels, kVectors>* s) {
  StartSpilling(s);
  const __m256i factors = Broadcast(t.table_factor & 0xffff);
  for (int i = 0; i < kPixels; ++i) {
    for (int v = 0; v < kVectors; ++v) {
      const __m256i odd = s->odd[i][v];
      const __m256i even = _mm256_sub_epi16(s->all[i][v], _mm256_slli_epi16(odd, 8));
      const __m256i halves[2] = {even, odd};
      for (int h = 0; h < 2; ++h) {
        __m256i first, second;
        Combine(halves[h], _mm256_setzero_si256(), factors, &first, &second);
        uint32_t* to = s->spilled[i] + 32 * v + 16 * h;
        Store(to, _mm256_add_epi32(Load(to), first));
        Store(to + 8, _mm256_add_epi32(Load(to + 8), second));
      }
      s->all[i][v] = s->odd[i][v] = _mm256_setzero_si256();
    }
  }
  s->used = 0;
}

// Weights of large matrices come from far; the processor's own prefetching stops at page ends.
constexpr int64_t kPrefetchBytes = 2048;
HETJAX_INLINE void Prefetch(const uint8_t* w, int vectors) {
  for (int v = 0; v < vectors; v += 2) {
    _mm_prefetch(reinterpret_cast<const char*>(w) + kPrefetchBytes + 32 * v, _MM_HINT_T0);
  }
}

template <int kPixels, int kVectors>
HETJAX_INLINE void LookUp(__m256i (&sums)[kPixels][kVectors], const uint8_t* table,
                          const uint8_t* const (&rows)[kPixels], int64_t k,
                          const __m256i (&index)[kVectors]) {
  HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
    const __m256i entries = _mm256_broadcastsi128_si256(
        _mm_load_si128(reinterpret_cast<const __m128i*>(table + rows[i][k])));
    HETJAX_UNROLL for (int v = 0; v < kVectors; ++v) {
      sums[i][v] = _mm256_add_epi8(sums[i][v], _mm256_shuffle_epi8(entries, index[v]));
    }
  }
}

// Units k and k + 1 of the rows; a dense byte of weights holds both.
template <bool kDense, int kPixels, int kVectors>
HETJAX_INLINE const uint8_t* LookUpTwo(__m256i (&sums)[kPixels][kVectors], const uint8_t* table,
                                       const uint8_t* const (&rows)[kPixels], int64_t k,
                                       const uint8_t* w) {
  const __m256i mask = _mm256_set1_epi8(15);
  if (kDense) Prefetch(w, kVectors);
  __m256i index[kVectors], next[kVectors];
  HETJAX_UNROLL for (int v = 0; v < kVectors; ++v) {
    const __m256i first = Load(w + 32 * v);
    index[v] = kDense ? _mm256_and_si256(first, mask) : first;
    next[v] = kDense ? _mm256_and_si256(_mm256_srli_epi16(first, 4), mask)
                     : Load(w + 32 * (kVectors + v));
  }
  LookUp<kPixels, kVectors>(sums, table, rows, k, index);
  LookUp<kPixels, kVectors>(sums, table, rows, k + 1, next);
  return w + (kDense ? 32 : 64) * kVectors;
}

// Adds a level's look-ups, times 2^kShift, to the sums of tables, of which every entry of a table
// adds at most kCost.
template <bool kDense, int kPixels, int kVectors, int kLookUps, int kCost, int kShift>
HETJAX_INLINE void AddTables(const Tile& t, const Segment& seg, const uint8_t* table,
                             State<kPixels, kVectors>* s) {
  __m256i sums[kPixels][kVectors];
  HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
    HETJAX_UNROLL for (int v = 0; v < kVectors; ++v) sums[i][v] = _mm256_setzero_si256();
  }
  const uint8_t* rows[kPixels];
  HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) rows[i] = seg.rows[i];
  const uint8_t* w = seg.weights;
  // A dense unit is two look-ups, and whole units go between two widenings.
  constexpr int kChunk = kDense ? kLookUps / 2 * 2 : kLookUps;
  const int run_units = kDense ? 2 * seg.units : seg.units;
  const int64_t skip = seg.run_bytes - run_units;
  int room = kChunk;
  const auto widen = [&]() __attribute__((always_inline)) {
    if (__builtin_expect(s->used > kTableLimit - kChunk * kCost, 0)) SpillTables(t, s);
    s->used += kChunk * kCost;
    HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
      HETJAX_UNROLL for (int v = 0; v < kVectors; ++v) {
        __m256i odd = _mm256_srli_epi16(sums[i][v], 8);
        __m256i all = sums[i][v];
        if (kShift > 0) {
          odd = _mm256_slli_epi16(odd, kShift);
          all = _mm256_slli_epi16(all, kShift);
        }
        s->all[i][v] = _mm256_add_epi16(s->all[i][v], all);
        s->odd[i][v] = _mm256_add_epi16(s->odd[i][v], odd);
        sums[i][v] = _mm256_setzero_si256();
      }
    }
    // The compiler would keep some of these in registers, and spill sums inside the loop instead.
    asm volatile("" : : : "memory");
    room = kChunk;
  };
  for (int32_t r = 0; r < seg.runs; ++r) {
    int left = run_units;
    while (left > 0) {
      const int count = left < room ? left : room;
      int64_t k = 0;
      for (; k + 2 <= count; k += 2) {
        w = LookUpTwo<kDense, kPixels, kVectors>(sums, table, rows, k, w);
      }
      if (!kDense && k < count) {
        __m256i index[kVectors];
        HETJAX_UNROLL for (int v = 0; v < kVectors; ++v) index[v] = Load(w + 32 * v);
        LookUp<kPixels, kVectors>(sums, table, rows, k, index);
        w += 32 * kVectors;
      }
      HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) rows[i] += count;
      left -= count;
      room -= count;
      if (room == 0) widen();
    }
    HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) rows[i] += skip;
  }
  if (room < kChunk) widen();
}

// Eight values of a pixel.
HETJAX_INLINE __m256 Value(__m256i sum, __m256 scale, __m256 bias, const float* residual,
                           __m256 low, __m256 high) {
  const __m256 affine = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), scale, bias);
  const __m256 y = _mm256_add_ps(affine, _mm256_loadu_ps(residual));
  // In this order NaN stays.
  return _mm256_min_ps(high, _mm256_max_ps(low, y));
}

// Adding these changes nothing, not even the sign of a zero.
constexpr struct NoResidual {
  float values[kBlock];
  constexpr NoResidual() : values() {
    for (float& x : values) x = -0.0f;
  }
} kNoResidual;

// Pairs of 4-bit codes in a byte to pairs of odd levels of outputs 0..15 and 16..31.
HETJAX_INLINE void SplitPairs(__m256i codes, __m256i* first, __m256i* second) {
  const __m256i mask = _mm256_set1_epi8(15);
  const __m256i levels = _mm256_setr_epi8(-15, -13, -11, -9, -7, -5, -3, -1, 1, 3, 5, 7, 9, 11, 13,
                                          15, -15, -13, -11, -9, -7, -5, -3, -1, 1, 3, 5, 7, 9, 11,
                                          13, 15);
  const __m256i low = _mm256_shuffle_epi8(levels, _mm256_and_si256(codes, mask));
  const __m256i high =
      _mm256_shuffle_epi8(levels, _mm256_and_si256(_mm256_srli_epi16(codes, 4), mask));
  *first = _mm256_unpacklo_epi8(low, high);
  *second = _mm256_unpackhi_epi8(low, high);
}

// 4-bit products of 32 outputs from `first` on, then everything's sum.
template <bool kDense, int kPixels, int kVectors>
HETJAX_INLINE void AddDotsAndFinish(const Tile& t, int first, State<kPixels, kVectors>* s) {
  const Segment& seg = t.segment[2];
  __m256i sums[kPixels][2];
  HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
    HETJAX_UNROLL for (int v = 0; v < 2; ++v) sums[i][v] = _mm256_setzero_si256();
  }
  if (seg.runs > 0) {
    constexpr int64_t kUnitBytes = (kDense ? 32 : 64) * kVectors;
    const uint8_t* rows[kPixels];
    HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) rows[i] = seg.rows[i];
    const uint8_t* w = seg.weights + (kDense ? 1 : 2) * first;
    int room = kDotUnits;
    for (int32_t r = 0; r < seg.runs; ++r) {
      int left = seg.units;
      while (left > 0) {
        if (room == 0) {
          StartSpilling(s);
          const __m256i factors = Broadcast(t.dot_factor & 0xffff);
          for (int i = 0; i < kPixels; ++i) {
            for (int v = 0; v < 2; ++v) {
              __m256i low, high;
              Combine(sums[i][v], _mm256_setzero_si256(), factors, &low, &high);
              uint32_t* to = s->spilled[i] + first + 16 * v;
              Store(to, _mm256_add_epi32(Load(to), low));
              Store(to + 8, _mm256_add_epi32(Load(to + 8), high));
              sums[i][v] = _mm256_setzero_si256();
            }
          }
          room = kDotUnits;
        }
        const int count = left < room ? left : room;
        for (int64_t k = 0; k < 4 * count; k += 4) {
          __m256i w0 = Load(w), w1;
          if (kDense) {
            Prefetch(w, 2);
            SplitPairs(w0, &w0, &w1);
          } else {
            w1 = Load(w + 32);
          }
          HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
            const __m256i a = BroadcastWord(rows[i] + k);
            sums[i][0] = _mm256_add_epi16(sums[i][0], _mm256_maddubs_epi16(a, w0));
            sums[i][1] = _mm256_add_epi16(sums[i][1], _mm256_maddubs_epi16(a, w1));
          }
          w += kUnitBytes;
        }
        HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) rows[i] += 4 * count;
        left -= count;
        room -= count;
      }
      HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) rows[i] += seg.run_bytes - 4 * seg.units;
    }
  }
  const int vector = first / 32;
  const __m256i factors = Broadcast((t.table_factor & 0xffff) | t.dot_factor << 16);
  const bool is_raw = t.scale == nullptr;
  const __m256 low = _mm256_set1_ps(t.activation == Activation::kNone ? -__builtin_inff() : 0.0f);
  const __m256 high = _mm256_set1_ps(t.activation == Activation::kRelu6 ? 6.0f : __builtin_inff());
  HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
    const __m256i odd = s->odd[i][vector];
    const __m256i even = _mm256_sub_epi16(s->all[i][vector], _mm256_slli_epi16(odd, 8));
    const uint32_t* base = s->base[i] + first;
    __m256i total[4];
    Combine(even, sums[i][0], factors, &total[0], &total[1]);
    Combine(odd, sums[i][1], factors, &total[2], &total[3]);
    HETJAX_UNROLL for (int q = 0; q < 4; ++q) {
      total[q] = _mm256_add_epi32(total[q], Load(base + 8 * q));
    }
    if (is_raw) {
      uint32_t* out = static_cast<uint32_t*>(t.out[i]) + first;
      HETJAX_UNROLL for (int q = 0; q < 4; ++q) Store(out + 8 * q, total[q]);
      continue;
    }
    const float* scale = t.scale + first;
    const float* bias = t.bias + first;
    const float* residual =
        t.residual[i] == nullptr ? kNoResidual.values : t.residual[i] + first;
    float* out = static_cast<float*>(t.out[i]) + first;
    __m256 y[4];
    HETJAX_UNROLL for (int q = 0; q < 4; ++q) {
      y[q] = Value(total[q], _mm256_loadu_ps(scale + 8 * q), _mm256_loadu_ps(bias + 8 * q),
                   residual + 8 * q, low, high);
    }
    HETJAX_UNROLL for (int q = 0; q < 4; ++q) _mm256_storeu_ps(out + 8 * q, y[q]);
  }
}

// 8-bit products, in 16 bits: vpmaddubsw would saturate.
template <int kPixels, int kVectors>
__attribute__((noinline)) void AddWide(const Tile& t, State<kPixels, kVectors>* s) {
  const Segment& seg = t.segment[3];
  constexpr int64_t kUnitBytes = 128 * kVectors;
  const __m256i factor = Broadcast(t.wide_factor);
  StartSpilling(s);
  for (int first = 0; first < 32 * kVectors; first += 16) {
    __m256i sums[kPixels][2];
    HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
      HETJAX_UNROLL for (int v = 0; v < 2; ++v) sums[i][v] = _mm256_setzero_si256();
    }
    const uint8_t* w = seg.weights + 4 * first;
    for (int32_t r = 0; r < seg.runs; ++r) {
      const int64_t run = r * seg.run_bytes;
      for (int64_t k = run; k < run + 4 * seg.units; k += 4, w += kUnitBytes) {
        const __m256i w0 = Load(w), w1 = Load(w + 32);
        HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
          const __m256i a = BroadcastWord(seg.rows[i] + k);
          sums[i][0] = _mm256_add_epi32(sums[i][0], _mm256_madd_epi16(a, w0));
          sums[i][1] = _mm256_add_epi32(sums[i][1], _mm256_madd_epi16(a, w1));
        }
      }
    }
    for (int i = 0; i < kPixels; ++i) {
      for (int v = 0; v < 2; ++v) {
        uint32_t* to = s->spilled[i] + first + 8 * v;
        Store(to, _mm256_add_epi32(Load(to), _mm256_mullo_epi32(sums[i][v], factor)));
      }
    }
  }
}

template <bool kDense, int kPixels, int kVectors>
void RunTile(const Tile& t) {
  State<kPixels, kVectors> s;
  s.is_spilled = false;
  s.used = 0;
  for (int i = 0; i < kPixels; ++i) {
    s.base[i] = t.constants[i];
    for (int v = 0; v < kVectors; ++v) s.all[i][v] = s.odd[i][v] = _mm256_setzero_si256();
  }
  if (t.segment[3].runs > 0) AddWide<kPixels, kVectors>(t, &s);
  if (t.segment[0].runs > 0) {
    if (t.table_shift == 0) {
      AddTables<kDense, kPixels, kVectors, kBitUnits, 4, 0>(t, t.segment[0], kTables.bits, &s);
    } else {
      AddTables<kDense, kPixels, kVectors, kBitUnits, 16, 2>(t, t.segment[0], kTables.bits, &s);
    }
  }
  if (t.segment[1].runs > 0) {
    AddTables<kDense, kPixels, kVectors, kPairUnits, 18, 0>(t, t.segment[1], kTables.pairs, &s);
  }
  AddDotsAndFinish<kDense, kPixels, kVectors>(t, 0, &s);
  if (kVectors == 2) AddDotsAndFinish<kDense, kPixels, kVectors>(t, 32 * (kVectors - 1), &s);
}

template <bool kDense, int kVectors>
void ByPixels(const Tile& t) {
  switch (t.pixels) {
    case 1: return RunTile<kDense, 1, kVectors>(t);
    case 2: return RunTile<kDense, 2, kVectors>(t);
    case 3: return RunTile<kDense, 3, kVectors>(t);
    case 4: return RunTile<kDense, 4, kVectors>(t);
    default: return RunTile<kDense, 5, kVectors>(t);
  }
}

void Run(const Tile& t) {
  if (t.is_dense) {
    t.lanes == kBlock ? ByPixels<true, 2>(t) : ByPixels<true, 1>(t);
  } else {
    t.lanes == kBlock ? ByPixels<false, 2>(t) : ByPixels<false, 1>(t);
  }
}

#include "convert_avx2.inc"
#include "depthwise_avx2.inc"

const Kernels kKernels = {
    "avx2",
    NibbleFormat,
    kTile,
    Run,
    DepthwiseVectors,
    {ExpandNibbles<1>, ExpandNibbles<2>, ExpandTwicePairs, ExpandWide},
    EncodeVectors,
    Pack,
    Unpack,
};

}  // namespace

const Kernels* Avx2Kernels() { return &kKernels; }

}  // namespace hetjax
