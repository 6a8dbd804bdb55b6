// Activation records -> rows of 32-bit units that the kernels broadcast.
#include <algorithm>

#include "bits.h"
#include "ops.h"

namespace hetjax {
namespace {

constexpr int64_t kPixelsPerTask = 256;

// Units of one pixel, and what the pixel adds to each group's accumulators.
void ExpandPixel(const Layer& layer, const uint8_t* record, bool is_signed, uint32_t* row,
                 uint32_t* terms) {
  for (int64_t g = 0; g < layer.groups; ++g) {
    uint32_t term = 0;
    for (size_t l = 0; l < layer.levels.size(); ++l) {
      const Part& part = layer.part(g, l);
      const int level = layer.levels[l];
      const int64_t per_unit = level == 1 ? 32 : 4;
      int64_t bit = 8 * layer.segment[l] + part.first * level;
      int64_t left = part.count;
      uint32_t sum = 0;
      for (int64_t u = 0; u < part.units; ++u, left -= per_unit, bit += per_unit * level) {
        const int width = static_cast<int>(std::min(left, per_unit)) * level;
        const uint32_t packed = ReadBits(record, layer.record_bytes, bit, width);
        *row++ = level == 1 ? packed : SpreadCodes(packed, level);
        if (level == 8) sum += SumBytes(packed);
        if (level == 1 && !is_signed) sum += CountBits(packed);
      }
      const uint32_t multiplier = static_cast<uint32_t>(layer.multiplier(l));
      if (level == 8) term += (is_signed ? 2 : 1) * multiplier * sum;
      if (level == 1) term -= multiplier * sum;
    }
    if (terms != nullptr) terms[g] = term;
  }
}

// Depthwise rows: the accumulator level of an output's only input channel, once per output.
void ExpandDepthwise(const Layer& layer, const uint8_t* record, bool is_signed, uint32_t* row) {
  for (size_t l = 0; l < layer.levels.size(); ++l) {
    const int level = layer.levels[l];
    const int shift = layer.levels[0] - level;
    int64_t bit = 8 * layer.segment[l];
    for (const int32_t c : layer.of[l]) {
      const int32_t code = static_cast<int32_t>(ReadBits(record, layer.record_bytes, bit, level));
      const int32_t value = is_signed ? 2 * code - ((1 << level) - 1) : code;
      const int64_t first = c * layer.outputs_per_group;
      std::fill_n(row + first, layer.outputs_per_group,
                  static_cast<uint32_t>(value * (1 << shift)));
      bit += level;
    }
  }
}

}  // namespace

Rows ExpandRows(const Layer& layer, const uint8_t* records, int64_t pixels, bool is_signed,
                Executor& executor) {
  Rows rows;
  rows.units.reset(new uint32_t[static_cast<size_t>(pixels * layer.row_units)]);
  const bool has_terms =
      !layer.depthwise && (layer.levels.front() == 8 || (!is_signed && layer.levels.back() == 1));
  if (has_terms) rows.terms.reset(new uint32_t[static_cast<size_t>(pixels * layer.groups)]);
  executor.Run((pixels + kPixelsPerTask - 1) / kPixelsPerTask, [&](int64_t task) {
    const int64_t end = std::min(pixels, (task + 1) * kPixelsPerTask);
    for (int64_t i = task * kPixelsPerTask; i < end; ++i) {
      const uint8_t* record = records + i * layer.record_bytes;
      uint32_t* row = rows.units.get() + i * layer.row_units;
      if (layer.depthwise) {
        ExpandDepthwise(layer, record, is_signed, row);
      } else {
        ExpandPixel(layer, record, is_signed, row,
                    has_terms ? rows.terms.get() + i * layer.groups : nullptr);
      }
    }
  });
  return rows;
}

}  // namespace hetjax
