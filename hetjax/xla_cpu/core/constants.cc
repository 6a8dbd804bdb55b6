#include "constants.h"

#include <algorithm>

namespace hetjax {
namespace {

void Add(const int32_t* from, int64_t count, uint32_t sign, uint32_t* to) {
  for (int64_t n = 0; n < count; ++n) to[n] += sign * static_cast<uint32_t>(from[n]);
}

}  // namespace

// Depthwise outputs have one block each as far as lanes go; their constants lie one after another.
Constants::Constants(const Layer& layer, const ConvArguments& arguments, const TapClasses& rows,
                     const TapClasses& columns, Carver* memory)
    : block_(layer.format.block),
      blocks_per_group_(layer.blocks_per_group),
      columns_(static_cast<int64_t>(columns.taps.size())),
      size_(layer.depthwise ? layer.outputs : layer.groups * layer.blocks_per_group * block_),
      values_(memory->Take<uint32_t>(static_cast<int64_t>(rows.taps.size()) * columns_ * size_)) {
  // Matrices' sums of unsigned codes need none.
  if (values_ == nullptr || (layer.is_matrix() && !arguments.is_signed)) return;
  const int32_t* each = arguments.corrections +
                        (arguments.is_signed ? kSignedCorrection : kUnsignedCorrection) *
                            layer.taps * layer.outputs;
  const int32_t* lowest = arguments.corrections + kLowestSigned * layer.taps * layer.outputs;
  const int64_t per_group = layer.outputs_per_group;
  uint32_t* to = values_;
  for (const Range& row : rows.taps) {
    for (const Range& column : columns.taps) {
      std::fill_n(to, size_, 0u);
      for (int64_t i = row.begin; i < row.end; ++i) {
        for (int64_t j = 0; j < layer.kernel_width; ++j) {
          const bool valid = j >= column.begin && j < column.end;
          const int64_t tap = (i * layer.kernel_width + j) * layer.outputs;
          if (layer.depthwise) {
            if (valid) Add(each + tap, layer.outputs, 1, to);
            continue;
          }
          for (int64_t g = 0; g < layer.groups; ++g) {
            uint32_t* lanes = to + Lane(g, 0);
            Add(each + tap + g * per_group, per_group, 1, lanes);
            if (!valid && arguments.is_signed) {
              Add(lowest + tap + g * per_group, per_group, 0u - 1, lanes);
            }
          }
        }
      }
      to += size_;
    }
  }
}

}  // namespace hetjax
