// What reads what along one axis of a float32 convolution or of its gradients.
#ifndef HETJAX_XLA_CPU_CORE_FLOAT_AXIS_H_
#define HETJAX_XLA_CPU_CORE_FLOAT_AXIS_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "float_conv.h"

namespace hetjax {

// Of executors with several threads.
constexpr int64_t kTasksPerThread = 4;

inline int64_t Ceil(int64_t a, int64_t b) { return (a + b - 1) / b; }

// As an offset: negative, whatever offset of the other axis is added.
constexpr int64_t kOutside = -(int64_t{1} << 60);

// Which source positions an axis's target positions read, tap by tap.
struct Axis {
  int64_t targets, taps, sources;
  std::vector<int64_t> offset;  // [targets][taps] floats from the image's start, or kOutside

  const int64_t* of(int64_t target) const {
    return offset.data() + static_cast<size_t>(target * taps);
  }
};

// Outputs read inputs, or for the gradient of the input, inputs read outputs; of `depth` channels.
inline Axis AxisOf(const FloatConv& conv, int axis, bool inputs_read, int64_t depth) {
  const Geometry& g = conv.geometry;
  const int64_t kernel = axis == 0 ? conv.kernel_height : conv.kernel_width;
  const int64_t input = axis == 0 ? g.height : g.width;
  const int64_t output = g.Output(axis, kernel);
  Axis a = {inputs_read ? input : output, kernel, inputs_read ? output : input, {}};
  a.offset.assign(static_cast<size_t>(a.targets * kernel), kOutside);
  const int64_t across = inputs_read ? conv.output_width() : g.width;
  const int64_t step = axis == 0 ? across * depth : depth;
  for (int64_t y = 0; y < output; ++y) {
    for (int64_t tap = 0; tap < kernel; ++tap) {
      const int64_t x = y * g.stride[axis] - g.pad_low[axis] + tap * g.dilation[axis];
      if (x < 0 || x >= input) continue;
      const int64_t target = inputs_read ? x : y;
      a.offset[static_cast<size_t>(target * kernel + tap)] = (inputs_read ? y : x) * step;
    }
  }
  return a;
}

// Positions of an axis, those that read through the same taps side by side.
inline std::vector<int64_t> OrderOf(const Axis& axis, int64_t phases) {
  std::vector<int64_t> order;
  for (int64_t phase = 0; phase < std::min(phases, axis.targets); ++phase) {
    for (int64_t i = phase; i < axis.targets; i += phases) order.push_back(i);
  }
  return order;
}

// Outputs of an axis for which a tap lies inside the image.
inline void ValidRange(const Axis& axis, int64_t tap, int64_t* first, int64_t* last) {
  *first = 0;
  while (*first < axis.targets && axis.of(*first)[tap] < 0) ++*first;
  *last = axis.targets;
  while (*last > *first && axis.of(*last - 1)[tap] < 0) --*last;
}

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_FLOAT_AXIS_H_
