// Float32 convolutions, their gradients, those of quantizers, and max pooling against plain loops,
// on random layers, for every instruction set of the machine, in one thread and in several. Values
// are small integers or eighths, so that sums are exact in any order.
//
//   float_test [seed [cases]]
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "core/dispatch.h"
#include "core/float_conv.h"
#include "core/float_quantizer.h"
#include "core/max_pool.h"
#include "layers.h"
#include "threads.h"

namespace hetjax_test {
namespace {

using Floats = std::vector<float>;

Floats Draw(Random& random, int64_t count) {
  Floats values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(random.Int(-4, 4));
  return values;
}

struct Sums {
  Floats y, x_gradient, kernel_gradient;
};

// Every product of the convolution once.
Sums Plain(const hetjax::FloatConv& conv, const Floats& x, const Floats& kernel, const Floats& g) {
  const hetjax::Geometry& at = conv.geometry;
  Sums sums = {Floats(g.size()), Floats(x.size()), Floats(kernel.size())};
  size_t out = 0;
  for (int64_t b = 0; b < at.batch; ++b) {
    for (int64_t oy = 0; oy < conv.output_height(); ++oy) {
      for (int64_t ox = 0; ox < conv.output_width(); ++ox, out += static_cast<size_t>(conv.outputs)) {
        for (int64_t tap = 0; tap < conv.taps(); ++tap) {
          const int64_t ky = tap / conv.kernel_width, kx = tap % conv.kernel_width;
          const int64_t iy = oy * at.stride[0] - at.pad_low[0] + ky * at.dilation[0];
          const int64_t ix = ox * at.stride[1] - at.pad_low[1] + kx * at.dilation[1];
          if (iy < 0 || iy >= at.height || ix < 0 || ix >= at.width) continue;
          for (int64_t c = 0; c < conv.channels; ++c) {
            const size_t in = static_cast<size_t>(((b * at.height + iy) * at.width + ix) *
                                                      conv.channels + c);
            for (int64_t n = 0; n < conv.outputs; ++n) {
              if (conv.depthwise && n != c) continue;
              const size_t to = out + static_cast<size_t>(n);
              const int64_t row = conv.depthwise ? tap : tap * conv.channels + c;
              const size_t weight = static_cast<size_t>(row * conv.outputs + n);
              sums.y[to] += x[in] * kernel[weight];
              sums.x_gradient[in] += g[to] * kernel[weight];
              sums.kernel_gradient[weight] += g[to] * x[in];
            }
          }
        }
      }
    }
  }
  return sums;
}

hetjax::FloatConv RandomConv(Random& random) {
  const auto axis = [&](int64_t* stride, int64_t* low, int64_t* high, int64_t* dilation) {
    *stride = random.Int(1, 3);
    *low = random.Int(0, 3);
    *high = random.Int(0, 3);
    *dilation = random.Int(1, 2);
    return random.Int(1, 9);
  };
  hetjax::FloatConv conv = {};
  hetjax::Geometry& g = conv.geometry;
  g.batch = random.Int(0, 14);  // groups of six, and what is left
  g.height = axis(&g.stride[0], &g.pad_low[0], &g.pad_high[0], &g.dilation[0]);
  g.width = axis(&g.stride[1], &g.pad_low[1], &g.pad_high[1], &g.dilation[1]);
  conv.kernel_height = random.Int(1, 4);
  conv.kernel_width = random.Int(1, 4);
  conv.channels = random.Int(1, 20);
  conv.outputs = random.Int(1, 40);
  conv.depthwise = random.Int(0, 2) == 0;
  if (conv.depthwise) conv.channels = conv.outputs;
  return conv;
}

void Check(const char* what, const char* isa, int64_t number, const Floats& expected,
           const Floats& got) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (expected[i] == got[i] || (std::isnan(expected[i]) && std::isnan(got[i]))) continue;
    std::fprintf(stderr, "float_test: case %lld, %s: %s %zu: expected %g, got %g\n",
                 static_cast<long long>(number), isa, what, i, static_cast<double>(expected[i]),
                 static_cast<double>(got[i]));
    std::exit(1);
  }
}

// In one order whoever adds: numbers whose sums round. Threads in their own rounding mode would
// differ by that alone.
void CheckOrder(const char* isa, int64_t number, const hetjax::FloatConv& conv, Floats x,
                Floats kernel, Floats g, Random& random) {
  for (Floats* values : {&x, &kernel, &g}) {
    for (float& value : *values) value = random.Uniform(-1, 1);
  }
  const auto run = [&](hetjax::Executor& executor) {
    Sums sums = {Floats(g.size()), Floats(x.size()), Floats(kernel.size())};
    hetjax::FloatForward(conv, x.data(), kernel.data(), sums.y.data(), executor);
    hetjax::FloatInputGradient(conv, g.data(), kernel.data(), sums.x_gradient.data(), executor);
    hetjax::FloatKernelGradient(conv, x.data(), g.data(), sums.kernel_gradient.data(), executor);
    return sums;
  };
  hetjax::Executor serial;
  Threads threads(random.Int(2, 5), FE_TONEAREST);
  const Sums expected = run(serial), got = run(threads);
  Check("output by threads", isa, number, expected.y, got.y);
  Check("gradient of input by threads", isa, number, expected.x_gradient, got.x_gradient);
  Check("gradient of weight by threads", isa, number, expected.kernel_gradient,
        got.kernel_gradient);
}

void CheckCase(uint64_t seed, int64_t number) {
  Random random(seed + static_cast<uint64_t>(number) * 0x9e3779b97f4a7c15u);
  const hetjax::FloatConv conv = RandomConv(random);
  conv.Check();
  const hetjax::Geometry& at = conv.geometry;
  const Floats x = Draw(random, at.batch * at.height * at.width * conv.channels);
  const Floats kernel = Draw(random, conv.weights());
  const Floats g =
      Draw(random, at.batch * conv.output_height() * conv.output_width() * conv.outputs);
  const Sums expected = Plain(conv, x, kernel, g);
  hetjax::Executor serial;
  Threads threads(random.Int(2, 5));
  for (const hetjax::Kernels* kernels : hetjax::AvailableKernels()) {
    hetjax::ForceKernels(kernels->name);
    for (hetjax::Executor* executor : {&serial, static_cast<hetjax::Executor*>(&threads)}) {
      Sums got = {Floats(g.size(), NAN), Floats(x.size(), NAN), Floats(kernel.size(), NAN)};
      SpoilScratch();
      hetjax::FloatForward(conv, x.data(), kernel.data(), got.y.data(), *executor);
      hetjax::FloatInputGradient(conv, g.data(), kernel.data(), got.x_gradient.data(), *executor);
      hetjax::FloatKernelGradient(conv, x.data(), g.data(), got.kernel_gradient.data(), *executor);
      Check("output", kernels->name, number, expected.y, got.y);
      Check("gradient of input", kernels->name, number, expected.x_gradient, got.x_gradient);
      Check("gradient of weight", kernels->name, number, expected.kernel_gradient,
            got.kernel_gradient);
    }
    CheckOrder(kernels->name, number, conv, x, kernel, g, random);
  }
}

struct QuantizerSums {
  Floats x, sigma, scale;
};

QuantizerSums PlainQuantizer(const hetjax::FloatQuantizer& q) {
  const auto values = static_cast<size_t>(q.rows * q.channels);
  const auto channels = static_cast<size_t>(q.channels);
  QuantizerSums sums = {Floats(values), Floats(channels), Floats(channels)};
  for (size_t i = 0; i < values; ++i) {
    const size_t c = i % channels;
    const float sigma = q.sigma[c], grid = q.x[i] * q.inv_scale, g = q.gradient[i] * q.factor;
    const float top = (2 - sigma) * (q.is_signed ? 1 : 2), low = q.is_signed ? -top : 0;
    const bool on_edge = grid == low || grid == top;
    if (q.noisy != nullptr) {
      const float clipped = std::fmin(std::fmax(grid, low), top);
      const float range = grid > top ? 1.0f : grid < low ? -1.0f : 0.0f;
      const float slope = q.is_signed ? -range : range > 0 ? -2.0f : 0.0f;
      sums.sigma[c] += g * ((q.noisy[i] - clipped) / sigma + slope);
    }
    if (grid < low || grid > top || (on_edge && q.noisy != nullptr)) continue;
    if (q.x[i] != 0) sums.x[i] = g * q.inv_scale;
    sums.scale[c] += g * q.x[i];
  }
  return sums;
}

// On eighths, which are added exactly.
void CheckQuantizer(uint64_t seed, int64_t number) {
  Random random(seed + static_cast<uint64_t>(number) * 0x9e3779b97f4a7c15u);
  // Now and then enough values for several tasks.
  const int64_t most = number % 16 == 0 ? 300'000 : 5'000;
  const int64_t channels = random.Int(1, 40), rows = random.Int(0, most / channels);
  Floats sigma(static_cast<size_t>(channels));
  for (float& value : sigma) value = std::ldexp(1.0f, static_cast<int>(-random.Int(0, 3)));
  const Floats g = Draw(random, rows * channels);
  Floats x = Draw(random, rows * channels), noise = Draw(random, rows * channels);
  for (float& value : x) value *= static_cast<float>(random.Int(1, 3)) / 4;
  const bool is_signed = random.Int(0, 1) == 1, is_rounded = random.Int(0, 1) == 1;
  const float inv_scale = std::ldexp(1.0f, static_cast<int>(random.Int(-1, 1)));
  Floats noisy(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const float s = sigma[i % sigma.size()], top = (2 - s) * (is_signed ? 1 : 2);
    const float low = is_signed ? -top : 0, grid = x[i] * inv_scale;
    noisy[i] = std::fmin(std::fmax(grid, low), top) + s * noise[i] / 4;
  }
  const hetjax::FloatQuantizer q = {
      rows,     channels, is_signed, g.data(), x.data(), is_rounded ? nullptr : noisy.data(),
      inv_scale, 2.0f,     sigma.data()};
  q.Check();
  const QuantizerSums expected = PlainQuantizer(q);
  hetjax::Executor serial;
  Threads threads(random.Int(2, 5));
  for (const hetjax::Kernels* kernels : hetjax::AvailableKernels()) {
    hetjax::ForceKernels(kernels->name);
    for (hetjax::Executor* executor : {&serial, static_cast<hetjax::Executor*>(&threads)}) {
      QuantizerSums got = {Floats(x.size(), NAN), Floats(sigma.size(), NAN),
                           Floats(sigma.size(), NAN)};
      SpoilScratch();
      hetjax::FloatQuantizerGradient(q, got.x.data(), got.sigma.data(), got.scale.data(),
                                     *executor);
      Check("quantizer's gradient of x", kernels->name, number, expected.x, got.x);
      Check("quantizer's gradient of sigma", kernels->name, number, expected.sigma, got.sigma);
      Check("quantizer's gradient of scale", kernels->name, number, expected.scale, got.scale);
    }
  }
}

Floats PlainMaxPool(const hetjax::MaxPool& pool, const Floats& x) {
  const hetjax::Geometry& at = pool.geometry;
  Floats y;
  for (int64_t b = 0; b < at.batch; ++b) {
    for (int64_t oy = 0; oy < pool.output_height(); ++oy) {
      for (int64_t ox = 0; ox < pool.output_width(); ++ox) {
        for (int64_t c = 0; c < pool.channels; ++c) {
          float most = -INFINITY;
          for (int64_t tap = 0; tap < pool.window_height * pool.window_width; ++tap) {
            const int64_t ky = tap / pool.window_width, kx = tap % pool.window_width;
            const int64_t iy = oy * at.stride[0] - at.pad_low[0] + ky * at.dilation[0];
            const int64_t ix = ox * at.stride[1] - at.pad_low[1] + kx * at.dilation[1];
            if (iy < 0 || iy >= at.height || ix < 0 || ix >= at.width) continue;
            const int64_t in = ((b * at.height + iy) * at.width + ix) * pool.channels + c;
            const float value = x[static_cast<size_t>(in)];
            if (std::isnan(most) || value <= most) continue;
            most = value;
          }
          y.push_back(most);
        }
      }
    }
  }
  return y;
}

// Now and then with NaN, which Check takes as equal to NaN.
void CheckMaxPool(uint64_t seed, int64_t number) {
  Random random(seed + static_cast<uint64_t>(number) * 0x9e3779b97f4a7c15u);
  const hetjax::FloatConv conv = RandomConv(random);
  const hetjax::MaxPool pool = {conv.geometry, conv.kernel_height, conv.kernel_width,
                                random.Int(1, 80)};
  pool.Check();
  const hetjax::Geometry& at = pool.geometry;
  Floats x = Draw(random, at.batch * at.height * at.width * pool.channels);
  for (float& value : x) value = random.OneIn(40) ? NAN : random.OneIn(40) ? -INFINITY : value;
  const Floats expected = PlainMaxPool(pool, x);
  hetjax::Executor serial;
  Threads threads(random.Int(2, 5));
  for (const hetjax::Kernels* kernels : hetjax::AvailableKernels()) {
    hetjax::ForceKernels(kernels->name);
    for (hetjax::Executor* executor : {&serial, static_cast<hetjax::Executor*>(&threads)}) {
      Floats got(expected.size(), 7.5f);
      hetjax::RunMaxPool(pool, x.data(), got.data(), *executor);
      Check("largest value", kernels->name, number, expected, got);
    }
  }
}

}  // namespace
}  // namespace hetjax_test

int main(int argc, char** argv) {
  const uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1;
  const int64_t cases = argc > 2 ? std::strtoll(argv[2], nullptr, 10) : 300;
  for (int64_t i = 0; i < cases; ++i) {
    hetjax_test::CheckCase(seed, i);
    hetjax_test::CheckQuantizer(seed, i);
    hetjax_test::CheckMaxPool(seed, i);
  }
  std::printf("float_test: %lld cases on each of %s\n", static_cast<long long>(cases),
              hetjax::AvailableNames().c_str());
  return 0;
}
