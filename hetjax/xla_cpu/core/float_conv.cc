#include "float_conv.h"

#include <algorithm>
#include <vector>

#include "error.h"
#include "float_axis.h"
#include "float_kernels.h"

namespace hetjax {
namespace {

// Pixels over which a tile of a kernel's gradient runs: enough to make up for loading its sums, few
// enough that the next tile finds them in the first-level cache.
constexpr int64_t kOuterPixels = 128;

}  // namespace

void FloatConv::Check() const {
  geometry.Check();
  CheckRange("kernel height", kernel_height, 1, kMaxExtent);
  CheckRange("kernel width", kernel_width, 1, kMaxExtent);
  CheckRange("channels", channels, 0, kMaxExtent);
  CheckRange("outputs", outputs, 0, kMaxExtent);
  if (depthwise) CheckRange("outputs of a depthwise convolution", outputs, channels, channels);
  const auto bytes = [&](const char* name, int64_t height, int64_t width, int64_t depth) {
    CheckedProduct(name, CheckedProduct(name, geometry.batch, height),
                   CheckedProduct(name, width, 4 * depth));
  };
  bytes("image", geometry.height, geometry.width, channels);
  bytes("output", output_height(), output_width(), outputs);
  CheckedProduct("kernel", CheckedProduct("kernel", kernel_height, kernel_width),
                 CheckedProduct("kernel", channels + 64, 4 * (outputs + 64)));
}

namespace {

// Row by row, so that the next tap finds its operands in the first-level cache.
void DepthwiseKernelGradient(const FloatConv& conv, const float* x, const float* y_gradient,
                             float* kernel_gradient, Executor& executor) {
  const FloatKernels& kernels = ActiveFloatKernels();
  const Geometry& g = conv.geometry;
  const int64_t channels = conv.channels;
  const Axis rows = AxisOf(conv, 0, false, channels), columns = AxisOf(conv, 1, false, channels);
  std::vector<int64_t> left(static_cast<size_t>(conv.kernel_width)), right(left);
  for (int64_t kx = 0; kx < conv.kernel_width; ++kx) {
    ValidRange(columns, kx, &left[static_cast<size_t>(kx)], &right[static_cast<size_t>(kx)]);
  }
  // A channel is one task's alone, so no two threads add to the same sum.
  const int64_t block = kFloatDepthwiseVectors * kernels.vector_lanes;
  const int64_t wanted = executor.threads() == 1 ? 1 : kTasksPerThread * executor.threads();
  const int64_t size = std::max<int64_t>(1, Ceil(Ceil(channels, block), wanted)) * block;
  executor.Run(Ceil(channels, size), [&](int64_t task) {
    const ExactFloats exact;
    const int64_t first = task * size;
    FloatDepthwiseOuter t = {};
    t.lanes = std::min(size, channels - first);
    t.x_pixel = g.stride[1] * channels;
    t.gradient_pixel = channels;
    for (int64_t image = 0; image < g.batch; ++image) {
      for (int64_t y = 0; y < rows.targets; ++y) {
        for (int64_t ky = 0; ky < conv.kernel_height; ++ky) {
          if (rows.of(y)[ky] < 0) continue;
          for (int64_t kx = 0; kx < conv.kernel_width; ++kx) {
            const int64_t begin = left[static_cast<size_t>(kx)];
            t.pixels = right[static_cast<size_t>(kx)] - begin;
            if (t.pixels <= 0) continue;
            t.x = x + image * g.height * g.width * channels + rows.of(y)[ky] +
                  columns.of(begin)[kx] + first;
            t.gradient = y_gradient +
                         ((image * rows.targets + y) * columns.targets + begin) * channels + first;
            t.out = kernel_gradient + (ky * conv.kernel_width + kx) * channels + first;
            kernels.depthwise_outer(t);
          }
        }
      }
    }
  });
}

}  // namespace

void FloatKernelGradient(const FloatConv& conv, const float* x, const float* y_gradient,
                         float* kernel_gradient, Executor& executor) {
  const FloatKernels& kernels = ActiveFloatKernels();
  const Geometry& g = conv.geometry;
  const int64_t channels = conv.channels, outputs = conv.outputs;
  std::fill_n(kernel_gradient, conv.weights(), 0.0f);
  if (conv.depthwise) {
    return DepthwiseKernelGradient(conv, x, y_gradient, kernel_gradient, executor);
  }
  const Axis rows = AxisOf(conv, 0, false, channels), columns = AxisOf(conv, 1, false, channels);
  const int64_t block = kFloatVectors * kernels.vector_lanes;
  const int64_t groups = Ceil(channels, kFloatChannels);
  const int64_t area = std::max<int64_t>(1, rows.targets * columns.targets);
  const int64_t images = Ceil(kOuterPixels, area);
  // A pair of tap and channels is one task's alone, so no two threads add to the same sum.
  const int64_t pairs = conv.taps() * groups;
  const int64_t wanted = executor.threads() == 1 ? 1 : kTasksPerThread * executor.threads();
  const int64_t size = std::max<int64_t>(1, Ceil(pairs, wanted));
  executor.Run(Ceil(pairs, size), [&](int64_t task) {
    const ExactFloats exact;
    for (int64_t image = 0; image < g.batch; image += images) {
      for (int64_t pair = task * size; pair < std::min(pairs, (task + 1) * size); ++pair) {
        const int64_t tap = pair / groups, c = pair % groups * kFloatChannels;
        const int64_t ky = tap / conv.kernel_width, kx = tap % conv.kernel_width;
        int64_t y, y_end, left, right;
        ValidRange(rows, ky, &y, &y_end);
        ValidRange(columns, kx, &left, &right);
        if (y == y_end || left == right) continue;
        FloatOuter t = {};
        t.images = std::min(images, g.batch - image);
        t.rows = y_end - y;
        t.pixels = right - left;
        t.x_pixel = g.stride[1] * channels;
        t.x_row = g.stride[0] * g.width * channels;
        t.x_image = g.height * g.width * channels;
        t.x = x + image * t.x_image + rows.of(y)[ky] + columns.of(left)[kx] + c;
        t.gradient_pixel = outputs;
        t.gradient_row = columns.targets * outputs;
        t.gradient_image = area * outputs;
        t.channels = static_cast<int32_t>(std::min<int64_t>(kFloatChannels, channels - c));
        t.out_channel = outputs;
        for (int64_t n = 0; n < outputs; n += block) {
          t.gradient = y_gradient + image * t.gradient_image +
                       (y * columns.targets + left) * outputs + n;
          t.lanes = std::min(block, outputs - n);
          t.out = kernel_gradient + (tap * channels + c) * outputs + n;
          kernels.outer(t);
        }
      }
    }
  });
}

}  // namespace hetjax
