#include "max_pool.h"

#include <algorithm>
#include <limits>

#include "error.h"
#include "float_kernels.h"
#include "rounding.h"
#include "scratch.h"

namespace hetjax {
namespace {

// Values that a task reads at least, so that it is worth one.
constexpr int64_t kTaskValues = 1 << 16;

struct Range {
  int64_t begin, end;
};

// Taps that lie within an axis of so many pixels, from an output's first one on, which may not.
Range TapsInside(int64_t first, int64_t dilation, int64_t taps, int64_t pixels) {
  const int64_t begin = first < 0 ? CeilDiv(-first, dilation) : 0;
  const int64_t end = first < pixels ? CeilDiv(pixels - first, dilation) : 0;
  return {std::min(begin, taps), std::min(end, taps)};
}

}  // namespace

void MaxPool::Check() const {
  geometry.Check();
  CheckRange("window height", window_height, 1, kMaxExtent);
  CheckRange("window width", window_width, 1, kMaxExtent);
  CheckRange("channels", channels, 0, kMaxExtent);
  const auto bytes = [&](const char* name, int64_t height, int64_t width) {
    CheckedProduct(name, CheckedProduct(name, geometry.batch, height),
                   CheckedProduct(name, width, 4 * channels));
  };
  bytes("image", geometry.height, geometry.width);
  bytes("output", output_height(), output_width());
}

void RunMaxPool(const MaxPool& pool, const float* x, float* y, Executor& executor) {
  const Geometry& g = pool.geometry;
  const int64_t height = pool.output_height(), width = pool.output_width();
  const int64_t rows = g.batch * height, row_values = width * pool.channels;
  if (rows * row_values == 0) return;
  const FloatKernels& kernels = ActiveFloatKernels();
  // Of a window's taps no more lie inside, however many there are.
  const int64_t taps = std::max<int64_t>(
      1, std::min(pool.window_height, g.height) * std::min(pool.window_width, g.width));
  const int64_t each = std::max<int64_t>(1, kTaskValues / taps / row_values);
  executor.Run(CeilDiv(rows, each), [&](int64_t task) {
    const ExactFloats exact;
    const auto sources = reinterpret_cast<const float**>(TaskScratch(taps * 8));
    for (int64_t row = task * each; row < std::min(rows, (task + 1) * each); ++row) {
      const float* const image = x + row / height * g.height * g.width * pool.channels;
      const int64_t top = row % height * g.stride[0] - g.pad_low[0];
      const Range down = TapsInside(top, g.dilation[0], pool.window_height, g.height);
      float* out = y + row * row_values;
      for (int64_t column = 0; column < width; ++column, out += pool.channels) {
        const int64_t left = column * g.stride[1] - g.pad_low[1];
        const Range across = TapsInside(left, g.dilation[1], pool.window_width, g.width);
        int64_t count = 0;
        for (int64_t i = down.begin; i < down.end; ++i) {
          const int64_t first = (top + i * g.dilation[0]) * g.width + left;
          for (int64_t j = across.begin; j < across.end; ++j) {
            sources[count++] = image + (first + j * g.dilation[1]) * pool.channels;
          }
        }
        if (count == 0) {
          std::fill_n(out, pool.channels, -std::numeric_limits<float>::infinity());
        } else {
          kernels.maximum({count, sources, pool.channels, out});
        }
      }
    }
  });
}

}  // namespace hetjax
