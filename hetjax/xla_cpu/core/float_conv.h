// Float32 convolutions and their gradients, for training: NHWC images, HWIO kernels, no groups
// or one for every channel (depthwise).
#ifndef HETJAX_XLA_CPU_CORE_FLOAT_CONV_H_
#define HETJAX_XLA_CPU_CORE_FLOAT_CONV_H_

#include <cstdint>

#include "executor.h"
#include "ops.h"

namespace hetjax {

struct FloatConv {
  Geometry geometry;
  int64_t kernel_height, kernel_width, channels, outputs;
  bool depthwise;  // an output reads the one input channel of its number

  // Throws std::invalid_argument if an extent is out of range.
  void Check() const;
  int64_t taps() const { return kernel_height * kernel_width; }
  int64_t weights() const { return taps() * (depthwise ? 1 : channels) * outputs; }
  int64_t output_height() const { return geometry.Output(0, kernel_height); }
  int64_t output_width() const { return geometry.Output(1, kernel_width); }
};

// x [batch][height][width][channels], kernel [taps][channels, 1 if depthwise][outputs],
// y [batch][oh][ow][outputs];
// gradients have the shapes of what they are gradients of. Every sum is taken in an order that
// depends on the shapes and on the machine's instructions, not on the threads.
void FloatForward(const FloatConv& conv, const float* x, const float* kernel, float* y,
                  Executor& executor);
void FloatInputGradient(const FloatConv& conv, const float* y_gradient, const float* kernel,
                        float* x_gradient, Executor& executor);
void FloatKernelGradient(const FloatConv& conv, const float* x, const float* y_gradient,
                         float* kernel_gradient, Executor& executor);

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_FLOAT_CONV_H_
