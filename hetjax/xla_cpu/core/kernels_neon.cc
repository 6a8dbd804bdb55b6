// AArch64 kernels, with the dot products of Armv8.2. 1-bit products are counts of differing bits,
// 2-bit ones come from tables of 16 bytes: four bits of an activation choose a table, four bits of
// a weight an entry. Both add up in bytes, 16 outputs a vector. The lanes of vectors are the outputs
// in order.
#include "kernels.h"

#include <arm_neon.h>

namespace hetjax {
namespace {

#include "kernels_common.inc"
#include "convert_neon.inc"

constexpr int kTile = 4;
// Outputs whose 32-bit sums are kept in registers.
constexpr int kLanes = 16;

#include "tables_neon.inc"

// 16 outputs' 32-bit sums of every pixel.
template <int kPixels>
using Sums = int32x4_t[kPixels][4];

template <int kPixels>
HETJAX_INLINE void Clear(Sums<kPixels>& sums) {
  HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
    HETJAX_UNROLL for (int q = 0; q < 4; ++q) sums[i][q] = vdupq_n_s32(0);
  }
}

// 4 bits: quadruples of codes times quadruples of odd levels; unit number kUnit of the loaded ones.
template <int kUnit, int kPixels>
HETJAX_INLINE void AddQuads(const uint8_t* w, const int8x16_t (&codes)[kPixels],
                            Sums<kPixels>& sums) {
  int8x16_t weights[4];
  HETJAX_UNROLL for (int q = 0; q < 4; ++q) {
    weights[q] = vreinterpretq_s8_u8(vld1q_u8(w + 16 * q));
  }
  HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
    HETJAX_UNROLL for (int q = 0; q < 4; ++q) {
      sums[i][q] = vdotq_laneq_s32(sums[i][q], weights[q], codes[i], kUnit);
    }
  }
}

template <int kPixels>
HETJAX_INLINE void AddDots(const Tile& t, int first, Sums<kPixels>& sums) {
  const Segment& seg = t.segment[2];
  const int64_t unit_bytes = 4 * t.lanes;
  const uint8_t* w = seg.weights + 4 * first;
  for (int32_t r = 0; r < seg.runs; ++r) {
    const uint8_t* rows[kPixels];
    HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) rows[i] = seg.rows[i] + r * seg.run_bytes;
    int32_t k = 0;
    int8x16_t codes[kPixels];
    for (; k + 4 <= seg.units; k += 4, w += 4 * unit_bytes) {
      HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
        codes[i] = vreinterpretq_s8_u8(vld1q_u8(rows[i] + 4 * k));
      }
      AddQuads<0, kPixels>(w, codes, sums);
      AddQuads<1, kPixels>(w + unit_bytes, codes, sums);
      AddQuads<2, kPixels>(w + 2 * unit_bytes, codes, sums);
      AddQuads<3, kPixels>(w + 3 * unit_bytes, codes, sums);
    }
    for (; k < seg.units; ++k, w += unit_bytes) {
      HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
        int32_t quad;
        __builtin_memcpy(&quad, rows[i] + 4 * k, 4);
        codes[i] = vreinterpretq_s8_s32(vdupq_n_s32(quad));
      }
      AddQuads<0, kPixels>(w, codes, sums);
    }
  }
}

// 8 bits, one channel a unit, in 16 bits: 8-bit odd levels need nine.
template <int kPixels>
HETJAX_INLINE void AddWide(const Tile& t, int first, Sums<kPixels>& sums) {
  const Segment& seg = t.segment[3];
  const int64_t unit_bytes = 2 * t.lanes;
  const uint8_t* w = seg.weights + 2 * first;
  for (int32_t r = 0; r < seg.runs; ++r) {
    for (int32_t k = 0; k < seg.units; ++k, w += unit_bytes) {
      const int16x8_t low = vreinterpretq_s16_u8(vld1q_u8(w));
      const int16x8_t high = vreinterpretq_s16_u8(vld1q_u8(w + 16));
      HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
        int16_t code;
        __builtin_memcpy(&code, seg.rows[i] + r * seg.run_bytes + 2 * k, 2);
        const int16x8_t codes = vdupq_n_s16(code);
        sums[i][0] = vmlal_s16(sums[i][0], vget_low_s16(low), vget_low_s16(codes));
        sums[i][1] = vmlal_high_s16(sums[i][1], low, codes);
        sums[i][2] = vmlal_s16(sums[i][2], vget_low_s16(high), vget_low_s16(codes));
        sums[i][3] = vmlal_high_s16(sums[i][3], high, codes);
      }
    }
  }
}

HETJAX_INLINE float32x4_t Activated(float32x4_t y, Activation activation) {
  if (activation == Activation::kNone) return y;
  // Neither the sign of a zero nor NaN changes.
  y = vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(y), vcltzq_f32(y)));
  return activation == Activation::kRelu ? y : vminq_f32(y, vdupq_n_f32(6.0f));
}

// 4 outputs.
HETJAX_INLINE float32x4_t Value(uint32x4_t total, const float* scale, const float* bias,
                                const float* residual, Activation activation) {
  const float32x4_t t = vcvtq_f32_s32(vreinterpretq_s32_u32(total));
  float32x4_t y = vfmaq_f32(vld1q_f32(bias), t, vld1q_f32(scale));
  if (residual != nullptr) y = vaddq_f32(y, vld1q_f32(residual));
  return Activated(y, activation);
}

// The sums of 4 and 8 bits of 16 outputs from `first` on, then everything's sum.
template <int kPixels>
void Finish(const Tile& t, int first, State<kPixels>* s) {
  Sums<kPixels> dots;
  if (t.segment[3].runs > 0) {
    Clear<kPixels>(dots);
    AddWide<kPixels>(t, first, dots);
    StartTotals(t.lanes, s);
    for (int i = 0; i < kPixels; ++i) {
      for (int q = 0; q < 4; ++q) {
        uint32_t* to = s->totals[i] + first + 4 * q;
        vst1q_u32(to, vmlaq_n_u32(vld1q_u32(to), vreinterpretq_u32_s32(dots[i][q]),
                                  t.wide_factor));
      }
    }
  }
  Clear<kPixels>(dots);
  if (t.segment[2].runs > 0) AddDots<kPixels>(t, first, dots);
  HETJAX_UNROLL for (int i = 0; i < kPixels; ++i) {
    uint32x4_t totals[4];
    HETJAX_UNROLL for (int q = 0; q < 4; ++q) {
      totals[q] = vmlaq_n_u32(vld1q_u32(s->base[i] + first + 4 * q),
                              vreinterpretq_u32_s32(dots[i][q]), t.dot_factor);
    }
    for (int index = 0; index < 2; ++index) {
      if (t.segment[index].runs == 0) continue;
      AddProducts(s->sums[index][i] + first, TableFactor(t, index), totals);
    }
    if (t.scale == nullptr) {
      uint32_t* out = static_cast<uint32_t*>(t.out[i]) + first;
      HETJAX_UNROLL for (int q = 0; q < 4; ++q) vst1q_u32(out + 4 * q, totals[q]);
      continue;
    }
    float* out = static_cast<float*>(t.out[i]) + first;
    const float* residual = t.residual[i] == nullptr ? nullptr : t.residual[i] + first;
    HETJAX_UNROLL for (int q = 0; q < 4; ++q) {
      vst1q_f32(out + 4 * q,
                Value(totals[q], t.scale + first + 4 * q, t.bias + first + 4 * q,
                      residual == nullptr ? nullptr : residual + 4 * q, t.activation));
    }
  }
}

template <int kPixels, int kVectors>
void RunTile(const Tile& t) {
  State<kPixels> s;
  s.has_totals = false;
  for (int i = 0; i < kPixels; ++i) s.base[i] = t.constants[i];
  if (t.segment[0].runs > 0) AddUnits<Bits, kPixels, kVectors>(t, 0, &s);
  if (t.segment[1].runs > 0) AddUnits<Pairs, kPixels, kVectors>(t, 1, &s);
  for (int first = 0; first < kLanes * kVectors; first += kLanes) Finish<kPixels>(t, first, &s);
}

template <int kVectors>
void ByPixels(const Tile& t) {
  switch (t.pixels) {
    case 1: return RunTile<1, kVectors>(t);
    case 2: return RunTile<2, kVectors>(t);
    case 3: return RunTile<3, kVectors>(t);
    default: return RunTile<4, kVectors>(t);
  }
}

void Run(const Tile& t) {
  if (t.lanes == kBlock) {
    ByPixels<kBlock / kLanes>(t);
  } else {
    ByPixels<kLaneStep / kLanes>(t);
  }
}

#include "depthwise_neon.inc"

const Kernels kKernels = {
    "neon_dotprod",
    NeonFormat,
    kTile,
    kTile,
    Run,
    DepthwiseVectors,
    nullptr,
    {ExpandBits, ExpandNibbles, ExpandBytes, ExpandWide},
    Encode,
    Pack,
    Unpack,
};

}  // namespace

const Kernels* NeonKernels() { return &kKernels; }

}  // namespace hetjax
