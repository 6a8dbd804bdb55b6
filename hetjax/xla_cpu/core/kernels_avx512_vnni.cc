// AVX-512 kernels for processors with VBMI, VNNI and VPOPCNTDQ. One-bit products are counts of
// equal bits; products of 2-bit codes come from a table of 64 rows of 64 bytes, one row for three
// channels' activations, of which one vpermb takes entries for 64 output channels; others are dot
// products.
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
#include "depthwise_avx512.inc"
#include "records_avx512.inc"
#include "expand_avx512.inc"

// Entry w of row a: raw sum of three channels with codes a and w.
struct Table {
  alignas(64) uint8_t entries[64 * 64];
};

constexpr Table MakeTable() {
  Table t = {};
  for (int a = 0; a < 64; ++a) {
    for (int w = 0; w < 64; ++w) {
      int products = 27;
      for (int shift = 0; shift < 6; shift += 2) {
        products += (2 * (a >> shift & 3) - 3) * (2 * (w >> shift & 3) - 3);
      }
      t.entries[64 * a + w] = static_cast<uint8_t>(products / 2);
    }
  }
  return t;
}
constexpr Table kTable = MakeTable();

// A table of 64 bytes is read for every pixel of a unit: for 128 outputs half as often as for 64.
constexpr int kTile = 8, kWideTile = 4;

struct Triples {
  static constexpr int kMost = 27, kUnits = 9;
  static constexpr int kStep = 9, kRowBytes = 1, kSums = 1;
  static constexpr bool kShifts = false;
  static HETJAX_INLINE const uint8_t* Entries(const uint8_t* row) {
    return kTable.entries + 64 * *row;
  }
  static HETJAX_INLINE __m512i LookUp(const uint8_t* entries, int, __m512i index) {
    return _mm512_permutexvar_epi8(index, Load512(entries));
  }
};

// Weights are complements.
struct Bits : Words {
  static HETJAX_INLINE __m512i Add(__m512i sum, __m512i a, __m512i w) {
    return _mm512_add_epi32(sum, _mm512_popcnt_epi32(_mm512_xor_si512(a, w)));
  }
};

struct Quads : Words {
  static HETJAX_INLINE __m512i Add(__m512i sum, __m512i a, __m512i w) {
    return _mm512_dpbusd_epi32(sum, a, w);
  }
};

// Quadruples of 4-bit codes in two bytes.
struct DenseQuads : Quads {
  static constexpr int kLaneBytes = 2;
  template <int kAtOnce>
  static HETJAX_INLINE void Load(const uint8_t* w, __m512i (&words)[kAtOnce]) {
    HETJAX_UNROLL for (int v = 0; v < kAtOnce; v += 2) {
      __m512i low, high;
      SplitNibbles(Load512(w + 32 * v), &low, &high);
      words[v] = _mm512_unpacklo_epi8(low, high);
      words[v + 1] = _mm512_unpackhi_epi8(low, high);
    }
  }
};

struct Pairs : Words {
  static HETJAX_INLINE __m512i Add(__m512i sum, __m512i a, __m512i w) {
    return _mm512_dpwssd_epi32(sum, a, w);
  }
};

// Adds the look-ups of vector v of the outputs, times the low half of every word of `factor`.
template <int kPixels, int kVectors>
HETJAX_INLINE __m512i AddLookUps(const State<kPixels, kVectors>& s, int pixel, int v,
                                 __m512i factor, __m512i sum) {
  const uint16_t* lanes = (v % 2 == 0 ? s.even[pixel] : s.odd[pixel]) + v / 2 * 16;
  return _mm512_dpwssd_epi32(sum, _mm512_cvtepu16_epi32(Load(lanes)), factor);
}

template <int kPixels, int kVectors>
__attribute__((noinline)) void SpillTables(const Tile& t, State<kPixels, kVectors>* s) {
  StartSpilling<kPixels, kVectors>(s);
  const __m512i factor = Broadcast512(t.table_factor);
  for (int i = 0; i < kPixels; ++i) {
    for (int v = 0; v < kVectors; ++v) {
      uint32_t* to = s->spilled[i] + 16 * v;
      Store512(to, AddLookUps(*s, i, v, factor, Load512(to)));
    }
  }
}

// Multiplies by a quotient of factors, which are powers of two.
template <int kPixels, int kAtOnce>
HETJAX_INLINE void Multiply(uint32_t factor, uint32_t divisor, __m512i (&sums)[kPixels][kAtOnce]) {
  const __m128i shift = _mm_cvtsi32_si128(__builtin_ctz(factor) - __builtin_ctz(divisor));
  HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
    HETJAX_UNROLL for (int v = 0; v < kAtOnce; ++v) {
      sums[i][v] = _mm512_sll_epi32(sums[i][v], shift);
    }
  }
}

// Everything of kAtOnce vectors but the look-ups themselves.
template <int kVectors, int kAtOnce, int kPixels>
HETJAX_INLINE void AddWordsAndFinish(const Tile& t, int first, const State<kPixels, kVectors>& s) {
  __m512i sums[kPixels][kAtOnce];
  Clear(sums);
  // Levels with the larger factors come first: sums of the others are added once they were
  // multiplied by the quotient.
  uint32_t factor = 1;
  if (t.segment[0].runs > 0) {
    AddWords<Bits, kVectors>(t.segment[0], first, sums);
    factor = t.table_factor << t.table_shift;
  }
  if (t.segment[2].runs > 0) {
    if (t.segment[0].runs > 0) Multiply(factor, t.dot_factor, sums);
    if (t.is_dense) {
      AddWords<DenseQuads, kVectors>(t.segment[2], first, sums);
    } else {
      AddWords<Quads, kVectors>(t.segment[2], first, sums);
    }
    factor = t.dot_factor;
  }
  if (t.segment[3].runs > 0) {
    if (t.segment[0].runs > 0 || t.segment[2].runs > 0) Multiply(factor, t.wide_factor, sums);
    AddWords<Pairs, kVectors>(t.segment[3], first, sums);
    factor = t.wide_factor;
  }
  Multiply(factor, 1, sums);
  HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
    HETJAX_UNROLL for (int v = 0; v < kAtOnce; ++v) {
      sums[i][v] = _mm512_add_epi32(sums[i][v], Load512(s.base[i] + 16 * (first + v)));
    }
  }
  if (t.segment[1].runs > 0) {
    const __m512i table_factor = Broadcast512(t.table_factor);
    HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
      HETJAX_UNROLL for (int v = 0; v < kAtOnce; ++v) {
        sums[i][v] = AddLookUps(s, i, first + v, table_factor, sums[i][v]);
      }
    }
  }
  HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) Finish(t, i, 16 * first, sums[i]);
}

template <int kPixels, int kVectors>
void RunTile(const Tile& t) {
  State<kPixels, kVectors> s;
  Start(t, &s);
  if (t.segment[1].runs > 0) {
    TableSums<kPixels, kVectors> sums;
    sums.Clear();
    AddTables<Triples, false>(t, t.segment[1], 0, &s, &sums);
    sums.Keep(&s);
  }
  // As many sums as leave registers for weights and activations.
  constexpr int kAtOnce = kPixels <= 4 && kVectors % 4 == 0 ? 4 : 2;
  for (int first = 0; first < kVectors; first += kAtOnce) {
    AddWordsAndFinish<kVectors, kAtOnce>(t, first, s);
  }
}

template <int kVectors>
struct Blocks {
  template <int kPixels>
  struct Of {
    static void Run(const Tile& t) { RunTile<kPixels, kVectors>(t); }
  };
};

void Run(const Tile& t) {
  switch (t.lanes / kLaneStep) {
    case 1: return ByPixels<Blocks<2>::Of, kTile>(t);
    case 2: return ByPixels<Blocks<4>::Of, kTile>(t);
    case 3: return ByPixels<Blocks<6>::Of, kWideTile>(t);
    default: return ByPixels<Blocks<8>::Of, kWideTile>(t);
  }
}

const Kernels kKernels = {
    "avx512_vnni",
    VectorFormat,
    kTile,
    kWideTile,
    Run,
    DepthwiseVectors,
    DepthwiseCodes,
    {ExpandWords, ExpandSixes, ExpandQuadVectors, ExpandWide},
    EncodeVectors512,
    Pack512,
    Unpack512,
};

}  // namespace

const Kernels* Avx512VnniKernels() { return &kKernels; }

}  // namespace hetjax
