#include "float_quantizer.h"

#include <algorithm>

#include "error.h"
#include "float_kernels.h"
#include "scratch.h"

namespace hetjax {
namespace {

// Values that a task runs over: so many that it is worth a task, so few that sums stay accurate.
constexpr int64_t kTaskValues = 1 << 16;
// And rows, of which a task's sums take two.
constexpr int64_t kTaskRows = 32;

}  // namespace

void FloatQuantizer::Check() const {
  CheckRange("channels", channels, 0, kMaxExtent);
  CheckedProduct("values", rows, 4 * channels);
}

void FloatQuantizerGradient(const FloatQuantizer& q, float* x_gradient, float* sigma_gradient,
                            float* inv_scale_gradient, Executor& executor) {
  std::fill_n(sigma_gradient, q.channels, 0.0f);
  std::fill_n(inv_scale_gradient, q.channels, 0.0f);
  if (q.rows == 0 || q.channels == 0) return;
  const FloatKernels& kernels = ActiveFloatKernels();
  const int64_t size = std::max(kTaskRows, kTaskValues / q.channels);
  const int64_t tasks = (q.rows + size - 1) / size;
  // [task][sigma's sums, scale's sums][channels]
  float* sums = reinterpret_cast<float*>(CallScratch(tasks * 2 * q.channels * 4));
  executor.Run(tasks, [&](int64_t task) {
    const ExactFloats exact;
    const int64_t first = task * size, at = first * q.channels;
    float* own = sums + task * 2 * q.channels;
    std::fill_n(own, 2 * q.channels, 0.0f);
    kernels.quantizer({std::min(size, q.rows - first), q.channels, q.is_signed, q.gradient + at,
                       q.x + at, q.noisy == nullptr ? nullptr : q.noisy + at, q.inv_scale,
                       q.factor, q.sigma, x_gradient + at, own, own + q.channels});
  });
  for (int64_t task = 0; task < tasks; ++task) {
    const float* own = sums + task * 2 * q.channels;
    for (int64_t c = 0; c < q.channels; ++c) {
      sigma_gradient[c] += own[c];
      inv_scale_gradient[c] += own[q.channels + c];
    }
  }
}

}  // namespace hetjax
