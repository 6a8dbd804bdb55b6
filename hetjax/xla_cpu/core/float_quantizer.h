// Gradients of training's quantizers of activations, in one pass over them.
#ifndef HETJAX_XLA_CPU_CORE_FLOAT_QUANTIZER_H_
#define HETJAX_XLA_CPU_CORE_FLOAT_QUANTIZER_H_

#include <cstdint>

#include "executor.h"

namespace hetjax {

// x times inv_scale is clipped to the grid's range and rounded, or given noise; `gradient` is that
// of `factor` times these values. All [rows][channels].
struct FloatQuantizer {
  int64_t rows, channels;
  bool is_signed;
  const float* gradient;
  const float* x;
  const float* noisy;  // null: rounded
  float inv_scale, factor;
  const float* sigma;  // [channels], half the grid's spacing

  // Throws std::invalid_argument if an extent is out of range.
  void Check() const;
};

// What hetjax.core.quantize defines: the gradient of x [rows][channels], of sigma [channels] (zeros
// if rounded) and of inv_scale, per channel. Every sum is taken in an order that depends on the
// shape and on the machine's instructions, not on the threads.
void FloatQuantizerGradient(const FloatQuantizer& quantizer, float* x_gradient,
                            float* sigma_gradient, float* inv_scale_gradient, Executor& executor);

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_FLOAT_QUANTIZER_H_
