// AVX2 kernels: 4-bit products by vpmaddubsw, the others as in kernels_avx2.inc.
#include "kernels.h"

#include <immintrin.h>

namespace hetjax {
namespace {

#include "kernels_common.inc"
#include "vectors_avx2.inc"
#include "prefetch_avx2.inc"
#include "encode_avx2.inc"
#include "records_avx2.inc"
#include "depthwise_avx2.inc"
#include "tables_avx2.inc"
#include "kernels_avx2.inc"

// 4-bit products of 32 outputs from `first` on, as pairs, then everything's sum.
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
    NextBlock next = s->next;
    constexpr int kFetched = kPrefetchBytes / 32;
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
        int count = left < room ? left : room;
        if (kDense) {
          if (count > kFetched) count = kFetched;
          Prefetch(&next);
        }
        for (int64_t k = 0; k < 4 * count; k += 4) {
          __m256i w0 = Load(w), w1;
          if (kDense) {
            SplitInOrder(w0, &w0, &w1);
          } else {
            w1 = Load(w + 32);
          }
          HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
            const __m256i a = BroadcastWord(rows[i] + k);
            AddHalves(_mm256_maddubs_epi16(a, w0), &sums[i][0]);
            AddHalves(_mm256_maddubs_epi16(a, w1), &sums[i][1]);
          }
          w += kUnitBytes;
        }
        HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) rows[i] += 4 * count;
        left -= count;
        room -= count;
      }
      HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) rows[i] += seg.run_bytes - 4 * seg.units;
    }
    s->next = next;
  }
  const int vector = first / 32;
  const __m256i factors = Broadcast((t.table_factor & 0xffff) | t.dot_factor << 16);
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
    Finish(t, i, first, total);
  }
}

struct Pairs {
  static constexpr int64_t kDenseBytes = 32;
  template <bool kDense, int kPixels, int kVectors>
  static HETJAX_INLINE void AddAndFinish(const Tile& t, State<kPixels, kVectors>* s) {
    AddDotsAndFinish<kDense, kPixels, kVectors>(t, 0, s);
    if (kVectors == 2) AddDotsAndFinish<kDense, kPixels, kVectors>(t, 32 * (kVectors - 1), s);
  }
};

const Kernels kKernels = {
    "avx2",
    TableFormat,
    kTile,
    kTile,
    Run<Pairs>,
    DepthwiseVectors,
    nullptr,
    {ExpandBytesToTables<1>, ExpandBytesToTables<2>, ExpandTwicePairs, ExpandWide},
    EncodeVectors,
    Pack,
    Unpack,
};

}  // namespace

const Kernels* Avx2Kernels() { return &kKernels; }

}  // namespace hetjax
