// Geometry of a convolution: which taps an output pixel reaches, how its work is split.
#ifndef HETJAX_XLA_CPU_CORE_TAPS_H_
#define HETJAX_XLA_CPU_CORE_TAPS_H_

#include <cstdint>
#include <vector>

#include "ops.h"

namespace hetjax {

struct Range {
  int64_t begin, end;
  bool operator==(const Range& other) const { return begin == other.begin && end == other.end; }
};

// Kernel rows and columns that lie within the image.
struct TapRect {
  Range rows, columns;
  bool operator==(const TapRect& other) const {
    return rows == other.rows && columns == other.columns;
  }
};

// Output rows (over all images) and columns of one task.
struct Window {
  int64_t row_begin, row_end, column_begin, column_end;
};

// Units of one level over the valid taps: where in the block's weights, where from a pixel's base.
struct UnitList {
  std::vector<int32_t> weight;
  std::vector<int64_t> row;
};

// Taps of one axis (0 height, 1 width) that output position `at` reaches; empty as {0, 0}.
Range ValidTaps(const Geometry& geometry, int axis, int64_t kernel, int64_t at);

// Pixel that tap (0, 0) reads; outside the image, even negative, where that tap is cut off.
inline int64_t InputOrigin(const Geometry& g, int64_t image, int64_t y, int64_t x) {
  return (image * g.height + y * g.stride[0] - g.pad_low[0]) * g.width + x * g.stride[1] -
         g.pad_low[1];
}

// Pixels from the origin to tap (i, j).
inline int64_t TapOffset(const Geometry& g, int64_t i, int64_t j) {
  return i * g.dilation[0] * g.width + j * g.dilation[1];
}

template <typename F>
void ForEachTap(const TapRect& rect, const F& visit) {
  for (int64_t i = rect.rows.begin; i < rect.rows.end; ++i) {
    for (int64_t j = rect.columns.begin; j < rect.columns.end; ++j) visit(i, j);
  }
}

void ListUnits(const Layer& layer, const Geometry& geometry, const TapRect& rect, int64_t group,
               size_t level, UnitList* list);

// Windows that give `threads` threads a few tasks each, not smaller than is efficient.
std::vector<Window> SplitOutput(int64_t rows, int64_t columns, int64_t blocks, int64_t threads);

// Writes accumulators of one pixel, raw or through the epilogue.
void WriteOutputs(const ConvArguments& arguments, const Kernels& kernels, const uint32_t* sums,
                  int64_t first_output, int32_t outputs, int64_t out_offset);

void DepthwiseWindow(const Layer& layer, const Geometry& geometry, const ConvArguments& arguments,
                     const Rows& rows, const Kernels& kernels, const Window& window);

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_TAPS_H_
