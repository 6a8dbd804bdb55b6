// AVX2 kernels whose 4-bit products come from vpdpbusd, the others as in kernels_avx2.inc.
#include "kernels.h"

#include <immintrin.h>

#ifdef HETJAX_EMULATE_AVX512
#include "avx512_emulated.h"
#endif

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

// 4-bit products of 16 outputs from `first` on, then everything's sum.
template <bool kDense, int kPixels, int kVectors>
HETJAX_INLINE void AddQuadsAndFinish(const Tile& t, int first, State<kPixels, kVectors>* s) {
  constexpr int kLaneBytes = kDense ? 2 : 4;
  const Segment& seg = t.segment[2];
  __m256i sums[kPixels][2];
  HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
    HETJAX_UNROLL for (int v = 0; v < 2; ++v) sums[i][v] = _mm256_setzero_si256();
  }
  if (seg.runs > 0) {
    const uint8_t* rows[kPixels];
    HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) rows[i] = seg.rows[i];
    const uint8_t* w = seg.weights + kLaneBytes * first;
    NextBlock next = s->next;
    for (int32_t r = 0; r < seg.runs; ++r) {
      for (int64_t k = 0; k < int64_t{4} * seg.units; k += 4, w += 32 * kLaneBytes * kVectors) {
        __m256i w0 = Load(w), w1;
        if (kDense) {
          if (k % (4 * kPrefetchBytes / 32) == 0) Prefetch(&next);
          SplitInOrder(w0, &w0, &w1);
        } else {
          w1 = Load(w + 32);
        }
        HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
          const __m256i a = BroadcastWord(rows[i] + k);
          sums[i][0] = _mm256_dpbusd_avx_epi32(sums[i][0], a, w0);
          sums[i][1] = _mm256_dpbusd_avx_epi32(sums[i][1], a, w1);
        }
      }
      HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) rows[i] += seg.run_bytes;
    }
    s->next = next;
  }
  const __m256i factor = Broadcast(t.table_factor & 0xffff);
  const __m128i shift = _mm_cvtsi32_si128(seg.runs > 0 ? __builtin_ctz(t.dot_factor) : 0);
  HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
    const __m256i odd = s->odd[i][first / 32];
    const __m256i even = _mm256_sub_epi16(s->all[i][first / 32], _mm256_slli_epi16(odd, 8));
    __m256i total[2];
    Combine(first % 32 == 0 ? even : odd, _mm256_setzero_si256(), factor, &total[0], &total[1]);
    HETJAX_UNROLL for (int v = 0; v < 2; ++v) {
      const __m256i others =
          _mm256_add_epi32(_mm256_sll_epi32(sums[i][v], shift), Load(s->base[i] + first + 8 * v));
      total[v] = _mm256_add_epi32(total[v], others);
    }
    Finish(t, i, first, total);
  }
}

struct Quads {
  static constexpr int64_t kDenseBytes = 64;
  template <bool kDense, int kPixels, int kVectors>
  static HETJAX_INLINE void AddAndFinish(const Tile& t, State<kPixels, kVectors>* s) {
    for (int first = 0; first < 32 * kVectors; first += 32) {
      AddQuadsAndFinish<kDense, kPixels, kVectors>(t, first, s);
      AddQuadsAndFinish<kDense, kPixels, kVectors>(t, first + 16, s);
    }
  }
};

const Kernels kKernels = {
    "avx2_vnni",
    TableQuadsFormat,
    kTile,
    kTile,
    Run<Quads>,
    DepthwiseVectors,
    nullptr,
    {ExpandBytesToTables<1>, ExpandBytesToTables<2>, ExpandQuads, ExpandWide},
    EncodeVectors,
    Pack,
    Unpack,
};

}  // namespace

const Kernels* Avx2VnniKernels() { return &kKernels; }

}  // namespace hetjax
