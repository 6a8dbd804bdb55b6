// Max pooling of float32 images, NHWC.
#ifndef HETJAX_XLA_CPU_CORE_MAX_POOL_H_
#define HETJAX_XLA_CPU_CORE_MAX_POOL_H_

#include <cstdint>

#include "executor.h"
#include "ops.h"

namespace hetjax {

struct MaxPool {
  Geometry geometry;  // padding counts as minus infinity
  int64_t window_height, window_width, channels;

  // Throws std::invalid_argument if an extent is out of range.
  void Check() const;
  int64_t output_height() const { return geometry.Output(0, window_height); }
  int64_t output_width() const { return geometry.Output(1, window_width); }
};

// x [batch][height][width][channels] to y [batch][oh][ow][channels]. A window with NaN has NaN.
void RunMaxPool(const MaxPool& pool, const float* x, float* y, Executor& executor);

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_MAX_POOL_H_
