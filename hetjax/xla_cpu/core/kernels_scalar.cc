// Portable kernels: the reference of the others, and what runs where no vector path does.
#include "kernels.h"

namespace hetjax {
namespace {

#include "kernels_common.inc"

// Raw sum of one lane over a segment; `unit` multiplies one unit.
template <typename Unit>
uint32_t Sum(const Segment& s, int pixel, int64_t unit_bytes, int64_t lane, int64_t row_bytes,
             const Unit& unit) {
  if (s.runs == 0) return 0;
  uint32_t sum = 0;
  const uint8_t* w = s.weights + lane;
  for (int32_t r = 0; r < s.runs; ++r) {
    const uint8_t* row = s.rows[pixel] + r * s.run_bytes;
    for (int32_t u = 0; u < s.units; ++u, row += row_bytes, w += unit_bytes) sum += unit(row, w);
  }
  return sum;
}

// Four channels of 1 bit: twice the agreements are the sum of a' q plus four.
uint32_t Bits(const uint8_t* row, const uint8_t* w) {
  const uint32_t differ = (row[0] >> 4) ^ w[0];
  return 4 - ((differ & 1) + (differ >> 1 & 1) + (differ >> 2 & 1) + (differ >> 3 & 1));
}

// Two channels of 2 bits.
uint32_t Pair(const uint8_t* row, const uint8_t* w) {
  const int a = row[0] >> 4, b = w[0];
  const int products = (2 * (a & 3) - 3) * (2 * (b & 3) - 3) + (2 * (a >> 2) - 3) * (2 * (b >> 2) - 3);
  return static_cast<uint32_t>((products + 18) / 2);
}

uint32_t Dot(const uint8_t* row, const uint8_t* w) {
  return static_cast<uint32_t>(row[0] * static_cast<int8_t>(w[0]) +
                               row[1] * static_cast<int8_t>(w[1]));
}

uint32_t Wide(const uint8_t* row, const uint8_t* w) {
  int16_t q[2];
  uint16_t u[2];
  __builtin_memcpy(q, w, 4);
  __builtin_memcpy(u, row, 4);
  return static_cast<uint32_t>(u[0] * q[0] + u[1] * q[1]);
}

// The dense form: two units in the nibbles of a byte.
template <uint32_t (*kUnit)(const uint8_t*, const uint8_t*)>
uint32_t Two(const uint8_t* row, const uint8_t* w) {
  const uint8_t low = w[0] & 15, high = w[0] >> 4;
  return kUnit(row, &low) + kUnit(row + 1, &high);
}

uint32_t DenseDot(const uint8_t* row, const uint8_t* w) {
  return static_cast<uint32_t>(row[0] * (2 * (w[0] & 15) - 15) + row[1] * (2 * (w[0] >> 4) - 15));
}

void Run(const Tile& t) {
  const Format& format = t.is_dense ? *NibbleFormat().dense : NibbleFormat();
  for (int i = 0; i < t.pixels; ++i) {
    for (int32_t n = 0; n < t.lanes; ++n) {
      const auto sum_of = [&](int index, int level, const auto& unit) {
        const UnitKind& kind = format.unit[index];
        return Sum(t.segment[index], i, t.lanes * kind.lane_bytes,
                   format.lane(level, n) * kind.lane_bytes, kind.row_bytes, unit);
      };
      uint32_t sum = t.constants[i][n];
      sum += (t.table_factor << t.table_shift) * sum_of(0, 1, t.is_dense ? Two<Bits> : Bits);
      sum += t.table_factor * sum_of(1, 2, t.is_dense ? Two<Pair> : Pair);
      sum += t.dot_factor * sum_of(2, 4, t.is_dense ? DenseDot : Dot);
      sum += t.wide_factor * sum_of(3, 8, Wide);
      if (t.scale == nullptr) {
        static_cast<uint32_t*>(t.out[i])[n] = sum;
        continue;
      }
      const float residual = t.residual[i] == nullptr ? -0.0f : t.residual[i][n];
      Emit(sum, t.scale[n], t.bias[n], residual, t.activation,
           static_cast<float*>(t.out[i]) + n);
    }
  }
}

void Depthwise(const DepthwiseTile& t) { DepthwiseFrom(t, 0); }

const Kernels kKernels = {
    "scalar",
    NibbleFormat,
    4,
    Run,
    Depthwise,
    {ExpandNibbles<1>, ExpandNibbles<2>, ExpandTwicePairs, ExpandWide},
    Encode,
    PackByList,
    UnpackByList,
};

}  // namespace

const Kernels* ScalarKernels() { return &kKernels; }

}  // namespace hetjax
