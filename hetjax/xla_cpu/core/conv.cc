// Convolution of packed operands: which tiles, which taps; the arithmetic is in the kernels.
//
// With X the popcounts and D the dot products of codes with stored weights, a tap's part of T is
//   signed:    sum_p 4^(pmax-p) * { -2 X (p = 1), 2 D (p = 2, 4), 4 D + 2 sum(u) (p = 8) } + c
//   unsigned:  sum_p 4^(pmax-p) * { 2 X - popcount(a) (p = 1), D (p = 2, 4), 2 D + sum(u) (p = 8) }
// where X counts bits that differ (signed) or that both have (unsigned), c is the tap's correction,
// and the sums over activations alone are the rows' terms. All of it is taken modulo 2^32, which is
// exact because T itself fits.
#include <algorithm>

#include "ops.h"
#include "taps.h"

namespace hetjax {
namespace {

uint32_t Factor(const Layer& layer, size_t l, bool is_signed) {
  const uint32_t multiplier = static_cast<uint32_t>(layer.multiplier(l));
  const uint32_t twice = is_signed ? 2 : 1;
  switch (layer.levels[l]) {
    case 1: return is_signed ? 0u - 2 * multiplier : 2 * multiplier;
    case 8: return 2 * twice * multiplier;
    default: return twice * multiplier;
  }
}

// One block of output channels over a range of output rows and columns.
class BlockTask {
 public:
  BlockTask(const Layer& layer, const Geometry& geometry, const ConvArguments& arguments,
            const Rows& rows, const Kernels& kernels, int64_t block)
      : layer_(layer),
        geometry_(geometry),
        arguments_(arguments),
        rows_(rows),
        kernels_(kernels),
        group_(block / layer.blocks_per_group),
        units_(layer.levels.size()) {
    const int64_t within = block % layer.blocks_per_group;
    const int64_t first = within * kBlock;
    outputs_ = static_cast<int32_t>(std::min<int64_t>(kBlock, layer.outputs_per_group - first));
    first_output_ = group_ * layer.outputs_per_group + first;
    weights_ = arguments.weights + layer.block_storage(group_, within);
  }

  void Run(const Window& window) {
    const int64_t out_height = geometry_.Output(0, layer_.kernel_height);
    const int64_t out_width = geometry_.Output(1, layer_.kernel_width);
    // Columns that reach the same kernel columns, over all rows: tiles then mix rows, and the
    // lists of taps change rarely.
    for (int64_t x = window.column_begin; x < window.column_end;) {
      const Range columns = ValidTaps(geometry_, 1, layer_.kernel_width, x);
      int64_t end = x + 1;
      while (end < window.column_end &&
             ValidTaps(geometry_, 1, layer_.kernel_width, end) == columns) {
        ++end;
      }
      for (int64_t row = window.row_begin; row < window.row_end; ++row) {
        const int64_t image = row / out_height, y = row % out_height;
        Use({ValidTaps(geometry_, 0, layer_.kernel_height, y), columns});
        for (int64_t column = x; column < end; ++column) {
          Add(InputOrigin(geometry_, image, y, column), row * out_width + column);
        }
      }
      x = end;
    }
    Flush();
  }

 private:
  // Sets the taps of the pixels to come.
  void Use(const TapRect& rect) {
    if (have_rect_ && rect == rect_) return;
    Flush();
    have_rect_ = true;
    rect_ = rect;
    for (size_t l = 0; l < units_.size(); ++l) {
      ListUnits(layer_, geometry_, rect, group_, l, &units_[l]);
    }
    std::fill_n(constants_, kBlock, 0u);
    if (!arguments_.is_signed) return;
    ForEachTap(rect, [&](int64_t i, int64_t j) {
      const int32_t* from = arguments_.corrections +
                            (i * layer_.kernel_width + j) * layer_.outputs + first_output_;
      for (int32_t n = 0; n < outputs_; ++n) constants_[n] += static_cast<uint32_t>(from[n]);
    });
  }

  void Add(int64_t origin, int64_t out_pixel) {
    origin_[pixels_] = origin;
    out_pixel_[pixels_] = out_pixel;
    if (++pixels_ == kTile) Flush();
  }

  // What the pixels of the valid taps add, whatever the weights.
  uint32_t Terms(int64_t origin) const {
    uint32_t sum = 0;
    ForEachTap(rect_, [&](int64_t i, int64_t j) {
      const int64_t pixel = origin + TapOffset(geometry_, i, j);
      sum += rows_.terms[static_cast<size_t>(pixel * layer_.groups + group_)];
    });
    return sum;
  }

  void Flush() {
    if (pixels_ == 0) return;
    uint32_t sums[kTile * kBlock];
    Tile tile = {};
    tile.weights = weights_;
    tile.rows = rows_.units.get();
    tile.pixels = pixels_;
    tile.sums = sums;
    for (int i = 0; i < pixels_; ++i) {
      tile.base[i] = origin_[i] * layer_.row_units;
      const uint32_t terms = rows_.terms ? Terms(origin_[i]) : 0;
      for (int n = 0; n < kBlock; ++n) sums[i * kBlock + n] = constants_[n] + terms;
    }
    for (size_t l = 0; l < units_.size(); ++l) {
      tile.count = static_cast<int32_t>(units_[l].weight.size());
      if (tile.count == 0) continue;
      tile.weight_units = units_[l].weight.data();
      tile.row_units = units_[l].row.data();
      tile.factor = Factor(layer_, l, arguments_.is_signed);
      Kernel(layer_.levels[l])(tile);
    }
    for (int i = 0; i < pixels_; ++i) {
      WriteOutputs(arguments_, kernels_, sums + i * kBlock, first_output_, outputs_,
                   out_pixel_[i] * layer_.outputs);
    }
    pixels_ = 0;
  }

  decltype(Kernels::dot_small) Kernel(int level) const {
    if (level == 8) return kernels_.dot_wide;
    if (level != 1) return kernels_.dot_small;
    return arguments_.is_signed ? kernels_.differing_bits : kernels_.common_bits;
  }

  const Layer& layer_;
  const Geometry& geometry_;
  const ConvArguments& arguments_;
  const Rows& rows_;
  const Kernels& kernels_;
  const int64_t group_;
  int64_t first_output_;
  int32_t outputs_;
  const uint8_t* weights_;

  bool have_rect_ = false;
  TapRect rect_ = {};
  std::vector<UnitList> units_;  // [level]
  uint32_t constants_[kBlock];
  int pixels_ = 0;
  int64_t origin_[kTile];
  int64_t out_pixel_[kTile];
};

constexpr int64_t kProductsWorthSharing = 1 << 20;

}  // namespace

void Conv(const Layer& layer, const Geometry& geometry, const ConvArguments& arguments,
          const Kernels& kernels, Executor& executor) {
  const int64_t out_height = geometry.Output(0, layer.kernel_height);
  const int64_t out_width = geometry.Output(1, layer.kernel_width);
  if (geometry.batch * out_height * out_width == 0) return;
  const int64_t pixels = geometry.batch * geometry.height * geometry.width;
  const Rows rows =
      ExpandRows(layer, arguments.records, pixels, arguments.is_signed, executor);
  const int64_t blocks =
      layer.depthwise ? 1 : layer.groups * layer.blocks_per_group;
  // Waking a thread costs more than a small layer.
  const int64_t products = geometry.batch * out_height * out_width * layer.taps * layer.outputs *
                           (layer.channels / layer.groups);
  Executor calling_thread;
  Executor& workers = products < kProductsWorthSharing ? calling_thread : executor;
  const std::vector<Window> windows =
      SplitOutput(geometry.batch * out_height, out_width, blocks, workers.threads());
  // Blocks change fastest, so that threads at neighbouring tasks share activations.
  workers.Run(static_cast<int64_t>(windows.size()) * blocks, [&](int64_t task) {
    const ExactFloats exact;
    const Window& window = windows[static_cast<size_t>(task / blocks)];
    if (layer.depthwise) {
      DepthwiseWindow(layer, geometry, arguments, rows, kernels, window);
    } else {
      BlockTask(layer, geometry, arguments, rows, kernels, task % blocks).Run(window);
    }
  });
}

}  // namespace hetjax
