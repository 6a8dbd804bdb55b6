// AVX-512 kernels for processors without the byte permutations and bit counts of
// kernels_avx512_vnni.cc: the look-ups of tables_avx2.inc for 64 output channels at once.
#include "kernels.h"

#ifdef HETJAX_EMULATE_AVX512
#include "avx512_emulated.h"
#else
#include <immintrin.h>
#endif

namespace hetjax {
namespace {

#include "kernels_common.inc"
#include "vectors_avx2.inc"
#include "encode_avx2.inc"
#include "records_avx2.inc"
#include "depthwise_avx2.inc"
#include "kernels_avx512.inc"
#include "tables_avx512.inc"
#include "encode_avx512.inc"

// A unit is a byte of codes: two tables and two planes of weights.
template <int kLevel>
struct NibbleTables {
  static constexpr int kMost = ByteTables<kLevel>::kMost, kUnits = ByteTables<kLevel>::kSums / 2;
  static constexpr int kStep = 1, kRowBytes = 2, kSums = 2;
  static constexpr bool kShifts = kLevel == 1;
  static HETJAX_INLINE const uint8_t* Entries(const uint8_t* row) {
    uint16_t offset;
    __builtin_memcpy(&offset, row, 2);
    return kByteTables<kLevel>.entries + offset;
  }
  static HETJAX_INLINE __m512i LookUp(const uint8_t* entries, int sum, __m512i index) {
    const __m128i* table = reinterpret_cast<const __m128i*>(entries) + sum;
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128(table)), index);
  }
};

constexpr int kTile = 8;

struct WidePairs : Words {
  static HETJAX_INLINE __m512i Add(__m512i sum, __m512i a, __m512i w) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(a, w));
  }
};

// Low and high halves of two vectors, one after the other.
HETJAX_INLINE __m512i LowHalves(__m512i x, __m512i y) {
  return _mm512_inserti64x4(x, _mm512_castsi512_si256(y), 1);
}
HETJAX_INLINE __m512i HighHalves(__m512i x, __m512i y) { return _mm512_shuffle_i64x2(x, y, 0xee); }

// The lanes of look-ups in vectors 2 h and 2 h + 1, in the order of the dot products.
template <int kPixels, int kVectors>
HETJAX_INLINE __m512i TableLanes(const State<kPixels, kVectors>& s, int pixel, int h) {
  return LowHalves(_mm512_zextsi256_si512(Load(s.even[pixel] + 16 * h)),
                   _mm512_zextsi256_si512(Load(s.odd[pixel] + 16 * h)));
}

// Two vectors of 16 outputs: tables * factors' low halves + dots * factors' high halves.
HETJAX_INLINE void Combine(__m512i tables, __m512i dots, __m512i factors, __m512i (&sums)[2]) {
  const __m512i low = _mm512_madd_epi16(_mm512_unpacklo_epi16(tables, dots), factors);
  const __m512i high = _mm512_madd_epi16(_mm512_unpackhi_epi16(tables, dots), factors);
  sums[0] = LowHalves(low, high);
  sums[1] = HighHalves(low, high);
}

HETJAX_INLINE void AddToMemory(const __m512i (&sums)[2], uint32_t* to) {
  for (int v = 0; v < 2; ++v) {
    Store512(to + 16 * v, _mm512_add_epi32(Load512(to + 16 * v), sums[v]));
  }
}

template <int kPixels, int kVectors>
__attribute__((noinline)) void SpillTables(const Tile& t, State<kPixels, kVectors>* s) {
  StartSpilling<kPixels, kVectors>(s);
  const __m512i factors = Broadcast512(t.table_factor & 0xffff);
  for (int i = 0; i < kPixels; ++i) {
    for (int h = 0; h < kVectors / 2; ++h) {
      __m512i sums[2];
      Combine(TableLanes(*s, i, h), _mm512_setzero_si512(), factors, sums);
      AddToMemory(sums, s->spilled[i] + 32 * h);
    }
  }
}

template <int kPixels, int kVectors>
__attribute__((noinline)) void SpillDots(const Tile& t, State<kPixels, kVectors>* s,
                                         const __m512i (&dots)[kPixels][kVectors / 2]) {
  StartSpilling<kPixels, kVectors>(s);
  const __m512i factors = Broadcast512(t.dot_factor & 0xffff);
  for (int i = 0; i < kPixels; ++i) {
    for (int h = 0; h < kVectors / 2; ++h) {
      __m512i sums[2];
      Combine(dots[i][h], _mm512_setzero_si512(), factors, sums);
      AddToMemory(sums, s->spilled[i] + 32 * h);
    }
  }
}

// Pairs of 4-bit codes in a byte to pairs of odd levels. Within every 256 bits the results are
// those of outputs 0..15 and 16..31, so the halves change places.
HETJAX_INLINE void SplitPairs512(__m512i codes, __m512i* first, __m512i* second) {
  __m512i low, high;
  SplitNibbles(codes, &low, &high);
  const __m512i even = _mm512_unpacklo_epi8(low, high), odd = _mm512_unpackhi_epi8(low, high);
  *first = LowHalves(even, odd);
  *second = HighHalves(even, odd);
}

// Sums of products of 4-bit codes, two outputs' pairs a word.
template <bool kDense, int kPixels, int kVectors>
HETJAX_INLINE void AddDots(const Tile& t, State<kPixels, kVectors>* s,
                           __m512i (&dots)[kPixels][kVectors / 2]) {
  constexpr int kHalves = kVectors / 2;
  constexpr int64_t kUnitBytes = (kDense ? 32 : 64) * kHalves;
  const Segment& seg = t.segment[2];
  const uint8_t* rows[kPixels];
  HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) rows[i] = seg.rows[i];
  const uint8_t* w = seg.weights;
  int room = kDotUnits;
  for (int32_t r = 0; r < seg.runs; ++r) {
    int left = seg.units;
    while (left > 0) {
      if (room == 0) {
        SpillDots<kPixels, kVectors>(t, s, dots);
        Clear(dots);
        room = kDotUnits;
      }
      const int count = left < room ? left : room;
      for (int64_t k = 0; k < 4 * count; k += 4, w += kUnitBytes) {
        __m512i words[kHalves];
        if (kDense) {
          Prefetch(w, kUnitBytes);
          __m512i other;
          SplitPairs512(LoadLanes<kVectors>(w, 0), &words[0],
                        kHalves == 2 ? &words[kHalves - 1] : &other);
        } else {
          HETJAX_UNROLL for (int h = 0; h < kHalves; ++h) words[h] = Load512(w + 64 * h);
        }
        HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
          uint32_t pair;
          __builtin_memcpy(&pair, rows[i] + k, 4);
          const __m512i a = Broadcast512(pair);
          HETJAX_UNROLL for (int h = 0; h < kHalves; ++h) {
            dots[i][h] = _mm512_add_epi16(dots[i][h], _mm512_maddubs_epi16(a, words[h]));
          }
        }
      }
      HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) rows[i] += 4 * count;
      left -= count;
      room -= count;
    }
    HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) rows[i] += seg.run_bytes - 4 * seg.units;
  }
}

template <bool kDense, int kPixels, int kVectors>
HETJAX_INLINE void AddDotsAndFinish(const Tile& t, State<kPixels, kVectors>* s) {
  __m512i dots[kPixels][kVectors / 2];
  Clear(dots);
  if (t.segment[2].runs > 0) AddDots<kDense, kPixels, kVectors>(t, s, dots);
  const __m512i factors = Broadcast512((t.table_factor & 0xffff) | t.dot_factor << 16);
  HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
    HETJAX_UNROLL for (int h = 0; h < kVectors / 2; ++h) {
      __m512i totals[2];
      Combine(TableLanes(*s, i, h), dots[i][h], factors, totals);
      HETJAX_UNROLL for (int v = 0; v < 2; ++v) {
        totals[v] = _mm512_add_epi32(totals[v], Load512(s->base[i] + 32 * h + 16 * v));
      }
      Finish(t, i, 32 * h, totals);
    }
  }
}

template <int kPixels, int kVectors>
__attribute__((noinline)) void AddWide(const Tile& t, State<kPixels, kVectors>* s) {
  StartSpilling<kPixels, kVectors>(s);
  const __m512i factor = Broadcast512(t.wide_factor);
  for (int first = 0; first < kVectors; first += 2) {
    __m512i sums[kPixels][2];
    Clear(sums);
    AddWords<WidePairs, kVectors>(t.segment[3], first, sums);
    HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
      HETJAX_UNROLL for (int v = 0; v < 2; ++v) {
        sums[i][v] = _mm512_mullo_epi32(sums[i][v], factor);
      }
      AddToMemory(sums[i], s->spilled[i] + 16 * first);
    }
  }
}

template <bool kDense, int kPixels, int kVectors>
void RunTile(const Tile& t) {
  State<kPixels, kVectors> s;
  Start(t, &s);
  if (t.segment[3].runs > 0) AddWide<kPixels, kVectors>(t, &s);
  TableSums<kPixels, kVectors> sums;
  sums.Clear();
  if (t.segment[0].runs > 0) {
    AddTables<NibbleTables<1>, kDense>(t, t.segment[0], t.table_shift, &s, &sums);
  }
  if (t.segment[1].runs > 0) {
    AddTables<NibbleTables<2>, kDense>(t, t.segment[1], 0, &s, &sums);
  }
  sums.Keep(&s);
  AddDotsAndFinish<kDense, kPixels, kVectors>(t, &s);
}

template <bool kDense, int kVectors>
struct Blocks {
  template <int kPixels>
  struct Of {
    static void Run(const Tile& t) { RunTile<kDense, kPixels, kVectors>(t); }
  };
};

template <bool kDense>
void RunLanes(const Tile& t) {
  if (t.lanes == kBlock) {
    ByPixels<Blocks<kDense, 4>::template Of, kTile>(t);
  } else {
    ByPixels<Blocks<kDense, 2>::template Of, kTile>(t);
  }
}

void Run(const Tile& t) { t.is_dense ? RunLanes<true>(t) : RunLanes<false>(t); }

const Kernels kKernels = {
    "avx512",
    TableFormat,
    kTile,
    kTile,
    Run,
    DepthwiseVectors,
    nullptr,
    {ExpandBytesToTables<1>, ExpandBytesToTables<2>, ExpandTwicePairs, ExpandWide},
    EncodeVectors512,
    Pack,
    Unpack,
};

}  // namespace

const Kernels* Avx512Kernels() { return &kKernels; }

}  // namespace hetjax
