// The forward pass of float_conv.h and the gradient of its image, which are one kernel.
#include <algorithm>
#include <vector>

#include "float_axis.h"
#include "float_conv.h"
#include "float_kernels.h"
#include "scratch.h"

namespace hetjax {
namespace {

// Of the images that a group of tiles reads: half of a common second-level cache, and less where few
// products are made of what is read.
constexpr int64_t kGroupBytes = 256 << 10, kDepthwiseGroupBytes = 128 << 10;

// Weights in the order of FloatGather: [block of lanes][tap][channels][lanes of whole vectors].
struct Panels {
  int64_t blocks, channels, taps, outputs, vector_lanes;
  int64_t vectors(int64_t block) const {
    const int64_t all = Ceil(outputs, vector_lanes);
    return all / blocks + (block < all % blocks ? 1 : 0);
  }
  int64_t first_vector(int64_t block) const {
    const int64_t all = Ceil(outputs, vector_lanes);
    return all / blocks * block + std::min(block, all % blocks);
  }
  int64_t floats() const { return Ceil(outputs, vector_lanes) * vector_lanes * taps * channels; }
  const float* tap(const float* panels, int64_t block, int64_t tap) const {
    return panels + (first_vector(block) * taps + tap * vectors(block)) * channels * vector_lanes;
  }
};

Panels PanelsOf(int64_t taps, int64_t channels, int64_t outputs, int64_t vector_lanes) {
  const int64_t blocks = Ceil(Ceil(outputs, vector_lanes), kFloatVectors);
  return {blocks, channels, taps, outputs, vector_lanes};
}

// kernel [taps][channels][outputs], or with is_transposed [taps][outputs][channels].
void FillPanels(const Panels& p, const float* kernel, bool is_transposed, float* to) {
  for (int64_t block = 0; block < p.blocks; ++block) {
    const int64_t first = p.first_vector(block) * p.vector_lanes;
    const int64_t lanes = p.vectors(block) * p.vector_lanes;
    for (int64_t tap = 0; tap < p.taps; ++tap) {
      const float* from = kernel + tap * p.channels * p.outputs;
      for (int64_t c = 0; c < p.channels; ++c) {
        for (int64_t n = first; n < first + lanes; ++n) {
          *to++ = n >= p.outputs ? 0.0f
                                 : from[is_transposed ? n * p.channels + c : c * p.outputs + n];
        }
      }
    }
  }
}

struct GatherProblem {
  Axis y, x;
  int64_t phases[2];
  int64_t batch;
  bool depthwise;
  Panels panels;
  const float* weights;  // panels, or depthwise [taps][channels]
  const float* source;  // [batch][y.sources][x.sources][channels]
  float* out;           // [batch][y.targets][x.targets][outputs]
};

// The order in which targets are computed. A tile skips the taps that lie outside the image for all
// its targets; near the borders of small images those are many, if a tile has one position of
// several images instead of several positions. So images go in groups of a tile, position after
// position; what makes no group, or is too large to stay in the second-level cache, goes image
// after image.
struct Order {
  int64_t area, grouped;  // positions of an image, images in groups
};

Order OrderOf(const GatherProblem& p) {
  const auto reaches_out = [](const Axis& axis) {
    return std::any_of(axis.offset.begin(), axis.offset.end(), [](int64_t o) { return o < 0; });
  };
  const int64_t bytes = kFloatPixels * p.y.sources * p.x.sources * p.panels.channels * 4;
  const bool fits = bytes <= (p.depthwise ? kDepthwiseGroupBytes : kGroupBytes);
  const bool groups = fits && (reaches_out(p.y) || reaches_out(p.x));
  return {p.y.targets * p.x.targets, groups ? p.batch / kFloatPixels * kFloatPixels : 0};
}

// Where a tile's targets are, and of which sources they are made.
struct Tile {
  const int64_t *rows[kFloatPixels], *columns[kFloatPixels];
  const float* image[kFloatPixels];
  float* out[kFloatPixels];
};

void Place(const GatherProblem& p, const std::vector<int64_t>& ys, const std::vector<int64_t>& xs,
           int64_t b, int64_t in_image, Tile* tile, int i) {
  const int64_t y = ys[static_cast<size_t>(in_image / p.x.targets)];
  const int64_t x = xs[static_cast<size_t>(in_image % p.x.targets)];
  tile->rows[i] = p.y.of(y);
  tile->columns[i] = p.x.of(x);
  tile->image[i] = p.source + b * p.y.sources * p.x.sources * p.panels.channels;
  tile->out[i] = p.out + ((b * p.y.targets + y) * p.x.targets + x) * p.panels.outputs;
}

// One position of images that follow each other: its taps lie inside all of them or none. Returns
// how many do, their numbers in `used`.
int64_t PlaceGroup(const GatherProblem& p, const std::vector<int64_t>& ys,
                   const std::vector<int64_t>& xs, int64_t area, int64_t at, Tile* tile,
                   const float** sources, int64_t* used) {
  const int64_t group = kFloatPixels * area;
  Place(p, ys, xs, at / group * kFloatPixels, at % group / kFloatPixels, tile, 0);
  const int64_t in_sources = p.y.sources * p.x.sources * p.panels.channels;
  for (int i = 1; i < kFloatPixels; ++i) {
    tile->image[i] = tile->image[0] + i * in_sources;
    tile->out[i] = tile->out[0] + i * area * p.panels.outputs;
  }
  int64_t taps = 0;
  for (int64_t ky = 0; ky < p.y.taps; ++ky) {
    for (int64_t kx = 0; kx < p.x.taps; ++kx) {
      const int64_t offset = tile->rows[0][ky] + tile->columns[0][kx];
      if (offset < 0) continue;
      for (int i = 0; i < kFloatPixels; ++i) *sources++ = tile->image[i] + offset;
      used[taps++] = ky * p.x.taps + kx;
    }
  }
  return taps;
}

// Any targets, at to at + pixels - 1 of images in order; `zeros` stands for what lies outside.
int64_t PlaceAny(const GatherProblem& p, const std::vector<int64_t>& ys,
                 const std::vector<int64_t>& xs, int64_t area, int64_t at, int64_t pixels,
                 const float* zeros, Tile* tile, const float** sources, int64_t* used) {
  for (int i = 0; i < kFloatPixels; ++i) {
    // Pixels beyond the last are the last once more.
    const int64_t pixel = at + std::min<int64_t>(i, pixels - 1);
    Place(p, ys, xs, pixel / area, pixel % area, tile, i);
  }
  int64_t taps = 0;
  for (int64_t ky = 0; ky < p.y.taps; ++ky) {
    for (int64_t kx = 0; kx < p.x.taps; ++kx) {
      const float** to = sources + taps * kFloatPixels;
      bool any = false;
      for (int i = 0; i < kFloatPixels; ++i) {
        const int64_t offset = tile->rows[i][ky] + tile->columns[i][kx];
        to[i] = offset >= 0 ? tile->image[i] + offset : zeros;
        any |= offset >= 0;
      }
      if (any) used[taps++] = ky * p.x.taps + kx;
    }
  }
  return taps;
}

// Targets first .. last - 1 of an order.
void GatherRange(const GatherProblem& p, const Order& order, const std::vector<int64_t>& ys,
                 const std::vector<int64_t>& xs, int64_t first, int64_t last, const float* zeros,
                 const float** sources, const float** weights, int64_t* used,
                 const FloatKernels& kernels) {
  const int64_t channels = p.panels.channels, outputs = p.panels.outputs;
  for (int64_t begin = first; begin < last; begin += kFloatPixels) {
    FloatGather t = {};
    t.channels = channels;
    t.pixels = static_cast<int32_t>(std::min<int64_t>(kFloatPixels, last - begin));
    Tile tile;
    t.taps = begin < order.grouped * order.area
                 ? PlaceGroup(p, ys, xs, order.area, begin, &tile, sources, used)
                 : PlaceAny(p, ys, xs, order.area, begin, t.pixels, zeros, &tile, sources, used);
    t.sources = sources;
    t.weights = weights;
    if (p.depthwise) {
      for (int64_t k = 0; k < t.taps; ++k) weights[k] = p.weights + used[k] * channels;
      std::copy_n(tile.out, kFloatPixels, t.out);
      kernels.depthwise(t);
      continue;
    }
    for (int64_t block = 0; block < p.panels.blocks; ++block) {
      const int64_t lane = p.panels.first_vector(block) * p.panels.vector_lanes;
      t.vectors = static_cast<int32_t>(p.panels.vectors(block));
      t.lanes = std::min(t.vectors * p.panels.vector_lanes, outputs - lane);
      for (int64_t k = 0; k < t.taps; ++k) {
        weights[k] = p.panels.tap(p.weights, block, used[k]);
      }
      for (int i = 0; i < kFloatPixels; ++i) t.out[i] = tile.out[i] + lane;
      kernels.gather(t);
    }
  }
}

void RunGather(const GatherProblem& p, const FloatKernels& kernels, Executor& executor) {
  const std::vector<int64_t> ys = OrderOf(p.y, p.phases[0]), xs = OrderOf(p.x, p.phases[1]);
  const Order order = OrderOf(p);
  const int64_t targets = p.batch * order.area;
  if (targets == 0 || p.panels.outputs == 0) return;
  const int64_t wanted = executor.threads() == 1 ? 1 : kTasksPerThread * executor.threads();
  const int64_t size = Ceil(Ceil(targets, wanted), kFloatPixels) * kFloatPixels;
  const int64_t taps = p.panels.taps;
  executor.Run(Ceil(targets, size), [&](int64_t task) {
    const ExactFloats exact;
    const auto carve = [&](Carver carver, float** zeros, const float*** sources,
                           const float*** weights, int64_t** used) {
      *zeros = carver.Take<float>(p.panels.channels);
      *sources = carver.Take<const float*>(taps * kFloatPixels);
      *weights = carver.Take<const float*>(taps);
      *used = carver.Take<int64_t>(taps);
      return carver.used();
    };
    float* zeros;
    const float **sources, **weights;
    int64_t* used;
    const int64_t bytes = carve(Carver(), &zeros, &sources, &weights, &used);
    carve(Carver(TaskScratch(bytes)), &zeros, &sources, &weights, &used);
    std::fill_n(zeros, p.panels.channels, 0.0f);
    GatherRange(p, order, ys, xs, task * size, std::min(targets, (task + 1) * size), zeros, sources,
                weights, used, kernels);
  });
}

// The forward pass, or the input's gradient: from `depth` channels of every source to `outputs`.
void Convolve(const FloatConv& conv, bool inputs_read, const float* source, const float* kernel,
              float* out, Executor& executor) {
  const FloatKernels& kernels = ActiveFloatKernels();
  const int64_t depth = inputs_read ? conv.outputs : conv.channels;
  const int64_t outputs = inputs_read ? conv.channels : conv.outputs;
  const Panels panels = PanelsOf(conv.taps(), depth, outputs, kernels.vector_lanes);
  const float* weights = kernel;
  if (!conv.depthwise) {
    float* filled = reinterpret_cast<float*>(CallScratch(panels.floats() * 4 + 1));
    FillPanels(panels, kernel, inputs_read, filled);
    weights = filled;
  }
  const int64_t* stride = conv.geometry.stride;
  RunGather({AxisOf(conv, 0, inputs_read, depth),
             AxisOf(conv, 1, inputs_read, depth),
             {inputs_read ? stride[0] : 1, inputs_read ? stride[1] : 1},
             conv.geometry.batch,
             conv.depthwise,
             panels,
             weights,
             source,
             out},
            kernels, executor);
}

}  // namespace

void FloatForward(const FloatConv& conv, const float* x, const float* kernel, float* y,
                  Executor& executor) {
  Convolve(conv, false, x, kernel, y, executor);
}

void FloatInputGradient(const FloatConv& conv, const float* y_gradient, const float* kernel,
                        float* x_gradient, Executor& executor) {
  Convolve(conv, true, y_gradient, kernel, x_gradient, executor);
}

}  // namespace hetjax
