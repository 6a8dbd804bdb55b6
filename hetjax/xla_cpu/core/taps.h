// Geometry of a convolution: which taps an output pixel reaches, and in which windows it is computed.
#ifndef HETJAX_XLA_CPU_CORE_TAPS_H_
#define HETJAX_XLA_CPU_CORE_TAPS_H_

#include <cstdint>
#include <vector>

#include "ops.h"

namespace hetjax {

// A matrix product in other words is one row of all its pixels; other geometries as they are.
Geometry Flattened(const Layer& layer, const Geometry& g);

struct Range {
  int64_t begin, end;
  bool operator==(const Range& other) const { return begin == other.begin && end == other.end; }
};

// Taps of one axis (0 height, 1 width) that output position `at` reaches; empty as {0, 0}.
Range ValidTaps(const Geometry& geometry, int axis, int64_t kernel, int64_t at);

// Output positions of one axis that reach the same taps have the same class.
struct TapClasses {
  std::vector<Range> taps;   // [class]
  std::vector<int32_t> of;   // [position] class

  TapClasses(const Geometry& geometry, int axis, int64_t kernel);
};

// Output rows and columns of one image that a task computes.
struct Window {
  int64_t image, row_begin, row_end, column_begin, column_end;

  int64_t pixels() const { return (row_end - row_begin) * (column_end - column_begin); }
};

// One axis of the input pixels that a window's outputs read, as they lie in working memory. Position
// p holds input coordinate origin + p' * step, where p' are the positions sorted so that the taps of
// a dilated kernel lie side by side. A kernel of one tap reads only what its strides hit.
struct AxisPlan {
  int64_t origin, step, stride, dilation;
  int64_t extent;   // input positions, in their own order
  int64_t columns;  // positions of each residue modulo the dilation

  AxisPlan(const Geometry& geometry, int axis, int64_t kernel, int64_t begin, int64_t end);

  int64_t size() const { return columns * dilation; }
  // Where the first tap of output number `o` of the window lies.
  int64_t Position(int64_t o) const {
    const int64_t p = o * stride;
    return dilation == 1 ? p : p % dilation * columns + p / dilation;
  }
  // Input coordinate at a position; beyond every image where there is none.
  int64_t Coordinate(int64_t position) const {
    const int64_t p =
        dilation == 1 ? position : position % columns * dilation + position / columns;
    return p < extent ? origin + p * step : kMaxCoordinate;
  }

  static constexpr int64_t kMaxCoordinate = int64_t{1} << 40;
};

// How a convolution is cut into tasks: windows times ranges of blocks.
struct Schedule {
  std::vector<Window> windows;
  int64_t blocks_each;  // blocks of a task; all of them where values are packed in the task
  int64_t ranges;       // tasks a window
};

// `threads` get a few tasks each, or as few as are even; a window's working memory stays within a
// second-level cache.
Schedule PlanTasks(const Layer& layer, const Geometry& geometry, int64_t tile, int64_t threads);

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_TAPS_H_
