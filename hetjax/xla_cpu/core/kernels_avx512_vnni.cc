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
#include "encode_avx512.inc"

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
HETJAX_INLINE __m512i AddLookUps(const State<kPixels, kVectors>& s, int pixel, int v, __m512i factor,
                                 __m512i sum) {
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
    AddTables<Triples, false, kPixels, kVectors>(t, t.segment[1], 0, &s, &sums);
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

// ---- Activations: packed codes to units.

// 1 bit: words as they are.
void ExpandWords(const Expansion& e) {
  for (int64_t i = 0; i < e.pixels; ++i) {
    uint8_t* row = e.rows + i * e.row_bytes;
    ForEachWord(e.packed + i * e.packed_bytes, e.count, [row](uint32_t word, int64_t at) {
      __builtin_memcpy(row + 4 * at, &word, 4);
    });
  }
}

// The first of at most 64 bytes, zeros behind them.
HETJAX_INLINE __m512i LoadFirst(const uint8_t* p, int64_t bytes) {
  const __mmask64 mask = ~__mmask64{0} >> (bytes < 64 ? 64 - bytes : 0);
  return _mm512_maskz_loadu_epi8(mask, p);
}

struct Spread {
  alignas(64) uint8_t bytes[64];   // word k of 64 bits takes bytes 6 k .. 6 k + 5
  alignas(64) uint8_t shifts[64];  // and byte j of it the bits from 6 j on
};
constexpr Spread MakeSpread() {
  Spread s = {};
  for (int i = 0; i < 64; ++i) {
    const int byte = i % 8 < 6 ? i % 8 : 5;
    s.bytes[i] = static_cast<uint8_t>(6 * (i / 8) + byte);
    s.shifts[i] = static_cast<uint8_t>(6 * (i % 8));
  }
  return s;
}
constexpr Spread kSpread = MakeSpread();

// 2 bits: every six bits to a byte, 48 bytes to 64 at a time.
void ExpandSixes(const Expansion& e) {
  const __m512i bytes = Load512(kSpread.bytes), shifts = Load512(kSpread.shifts);
  const int64_t packed_bytes = (e.count + 15) / 16 * 4, units = (e.count + 2) / 3;
  const uint8_t last = static_cast<uint8_t>((1u << 2 * (e.count - 3 * (units - 1))) - 1);
  for (int64_t i = 0; i < e.pixels; ++i) {
    const uint8_t* packed = e.packed + i * e.packed_bytes;
    uint8_t* row = e.rows + i * e.row_bytes;
    for (int64_t at = 0; 64 * at < units; ++at) {
      const __m512i groups = _mm512_permutexvar_epi8(
          bytes, LoadFirst(packed + 48 * at, packed_bytes - 48 * at));
      const __m512i sixes = _mm512_multishift_epi64_epi8(shifts, groups);
      Store512(row + 64 * at, _mm512_and_si512(sixes, Broadcast512(0x3f3f3f3fu)));
    }
    row[units - 1] &= last;
  }
}

// 4 bits: as ExpandQuads, 32 bytes to 64 at a time.
void ExpandQuadVectors(const Expansion& e) {
  const int64_t packed_bytes = (e.count + 7) / 8 * 4, unit = e.count / 4 * 4;
  const uint32_t last = (1u << 8 * (e.count - unit)) - 1;
  for (int64_t i = 0; i < e.pixels; ++i) {
    const uint8_t* packed = e.packed + i * e.packed_bytes;
    uint8_t* row = e.rows + i * e.row_bytes;
    for (int64_t at = 0; at < packed_bytes; at += 32) {
      const __m512i codes = LoadFirst(packed + at, packed_bytes - at);
      const __m512i pairs = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(codes));
      const __m512i both = _mm512_or_si512(pairs, _mm512_slli_epi16(pairs, 4));
      Store512(row + 2 * at, _mm512_and_si512(both, Broadcast512(0x0f0f0f0fu)));
    }
    if (unit == e.count) continue;
    uint32_t word;
    __builtin_memcpy(&word, row + unit, 4);
    word &= last;
    __builtin_memcpy(row + unit, &word, 4);
  }
}

const Kernels kKernels = {
    "avx512_vnni",
    VectorFormat,
    kTile,
    kWideTile,
    Run,
    DepthwiseVectors,
    {ExpandWords, ExpandSixes, ExpandQuadVectors, ExpandWide},
    EncodeVectors512,
    Pack,
    Unpack,
};

}  // namespace

const Kernels* Avx512VnniKernels() { return &kKernels; }

}  // namespace hetjax
