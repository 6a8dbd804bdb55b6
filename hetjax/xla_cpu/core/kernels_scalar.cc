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

// Two nibbles of weights choose entries of two tables.
template <int kLevel>
uint32_t Nibbles(const uint8_t* row, int low, int high) {
  uint16_t offset;
  __builtin_memcpy(&offset, row, 2);
  const uint8_t* table = kByteTables<kLevel>.entries + offset;
  return uint32_t{table[low]} + table[kNibbleBytes + high];
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

uint32_t DenseDot(const uint8_t* row, const uint8_t* w) {
  return static_cast<uint32_t>(row[0] * (2 * (w[0] & 15) - 15) + row[1] * (2 * (w[0] >> 4) - 15));
}

void Run(const Tile& t) {
  const Format& format = t.is_dense ? *TableFormat().dense : TableFormat();
  const bool is_dense = t.is_dense;
  const int32_t lanes = t.lanes;
  const auto bits = [=](const uint8_t* row, const uint8_t* w) {
    return Nibbles<1>(row, is_dense ? w[0] & 15 : w[0], is_dense ? w[0] >> 4 : w[lanes]);
  };
  const auto pairs = [=](const uint8_t* row, const uint8_t* w) {
    return Nibbles<2>(row, is_dense ? w[0] & 15 : w[0], is_dense ? w[0] >> 4 : w[lanes]);
  };
  for (int i = 0; i < t.pixels; ++i) {
    for (int32_t n = 0; n < t.lanes; ++n) {
      const auto sum_of = [&](int index, int level, const auto& unit) {
        const UnitKind& kind = format.unit[index];
        return Sum(t.segment[index], i, t.lanes * kind.lane_bytes,
                   format.lane(level, n) * kind.lane_bytes / kind.planes, kind.row_bytes, unit);
      };
      uint32_t sum = t.constants[i][n];
      sum += (t.table_factor << t.table_shift) * sum_of(0, 1, bits);
      sum += t.table_factor * sum_of(1, 2, pairs);
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
    TableFormat,
    4,
    4,
    Run,
    Depthwise,
    nullptr,
    {ExpandBytesToTables<1>, ExpandBytesToTables<2>, ExpandTwicePairs, ExpandWide},
    Encode,
    PackByList,
    UnpackByList,
};

}  // namespace

const Kernels* ScalarKernels() { return &kKernels; }

}  // namespace hetjax
