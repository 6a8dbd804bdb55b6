// Inner loops of float32 convolutions, quantizers and pooling. Plain data only, for the reason that
// kernels.h gives.
#ifndef HETJAX_XLA_CPU_CORE_FLOAT_KERNELS_H_
#define HETJAX_XLA_CPU_CORE_FLOAT_KERNELS_H_

#include <cstdint>

namespace hetjax {

// 6 x 2 sums, 2 vectors and a factor are 15 registers. 4 x 3 would load less but need all 16, and
// compilers then spill a sum within the loop, which costs half the speed.
constexpr int kFloatPixels = 6;    // of a tile of sums over taps and channels
constexpr int kFloatChannels = 6;  // of a tile of sums over pixels
constexpr int kFloatVectors = 2;   // of lanes, at most, of any tile
constexpr int kFloatDepthwiseVectors = 4;  // whose sums over pixels do not wait for each other

// out[i][n] = sum over taps and channels of sources[tap][i][c] * weights[tap][c][n]
struct FloatGather {
  int64_t taps, channels;
  const float* const* sources;  // [taps][kFloatPixels]
  const float* const* weights;  // [taps]: [channels][vectors of lanes]
  int32_t vectors;
  int64_t lanes;                // to be written, at most those of the vectors
  int32_t pixels;               // to be written
  float* out[kFloatPixels];
};

// out[c][n] += sum over images, rows and pixels of x[..][c] * gradient[..][n]
struct FloatOuter {
  int64_t images, rows, pixels;
  const float* x;
  const float* gradient;
  int64_t x_image, x_row, x_pixel;                       // floats from one to the next
  int64_t gradient_image, gradient_row, gradient_pixel;
  int32_t channels;                                      // at most kFloatChannels
  int64_t lanes;  // at most those of kFloatVectors vectors
  float* out;
  int64_t out_channel;
};

// out[c] += sum over pixels of x[..][c] * gradient[..][c]
struct FloatDepthwiseOuter {
  int64_t pixels, lanes;
  const float* x;
  const float* gradient;
  int64_t x_pixel, gradient_pixel;  // floats from one to the next
  float* out;
};

// Gradients of quantizing rows of channels, see float_quantizer.h; adds to the sums.
struct FloatQuantizerRows {
  int64_t rows, channels;
  bool is_signed;
  const float* gradient;  // [rows][channels], like the next two and x_gradient
  const float* x;
  const float* noisy;  // null: rounded
  float inv_scale, factor;
  const float* sigma;  // [channels]
  float* x_gradient;
  float* sigma_sums;   // [channels], left alone if rounded
  float* scale_sums;   // [channels]
};

// out[c] = the largest of sources[..][c], NaN if one is
struct FloatMaximum {
  int64_t count;
  const float* const* sources;  // [count], at least one
  int64_t lanes;
  float* out;
};

struct FloatKernels {
  int32_t vector_lanes;
  void (*gather)(const FloatGather&);
  void (*outer)(const FloatOuter&);
  // out[i][c] = sum over taps of sources[tap][i][c] * weights[tap][c]; `vectors`, `lanes` unused.
  void (*depthwise)(const FloatGather&);
  void (*depthwise_outer)(const FloatDepthwiseOuter&);
  void (*quantizer)(const FloatQuantizerRows&);
  void (*maximum)(const FloatMaximum&);
};

const FloatKernels* GenericFloatKernels();
const FloatKernels* Avx2FloatKernels();    // where the build has it
const FloatKernels* Avx512FloatKernels();  // where the build has it and does not emulate

// Those that go with ActiveKernels().
const FloatKernels& ActiveFloatKernels();

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_FLOAT_KERNELS_H_
