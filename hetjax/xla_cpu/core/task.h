// One task of a convolution: a window's pixels times some blocks of output channels, in tiles.
#ifndef HETJAX_XLA_CPU_CORE_TASK_H_
#define HETJAX_XLA_CPU_CORE_TASK_H_

#include <cstdint>
#include <functional>

#include "constants.h"
#include "ops.h"
#include "taps.h"
#include "window.h"

namespace hetjax {

// Everything that the tasks of a call share.
struct Call {
  const Layer& layer;
  const Geometry& geometry;
  const ConvArguments& arguments;
  const Kernels& kernels;
  const TapClasses& rows;
  const TapClasses& columns;
  const Constants& constants;
  int64_t height, width;      // of the output
  const int32_t* multiplier;  // [outputs], depthwise layers that are not narrow
};

// Factor of a level's raw sums; signed sums of odd levels are twice the kernels' raw sums.
inline uint32_t Factor(const Layer& layer, int level, bool is_signed) {
  return (is_signed ? 2u : 1u) << 2 * (layer.levels[0] - level);
}

// One task's outputs: windows' pixels times the blocks [begin, end).
class Task {
 public:
  // Values go to `values`, or to the call's out if that is null: the window's own
  // [pixels][outputs], or of depthwise layers a row of the window's.
  Task(const Call& call, const Window& window, float* values)
      : call_(call),
        window_(window),
        values_(values),
        out_(static_cast<uint8_t*>(values == nullptr ? call.arguments.out : values)) {}

  void RunBlocks(const ExpandedWindow& input, int64_t begin, int64_t end) {
    input_ = &input;
    for (int64_t block = begin; block < end; ++block) RunBlock(block);
  }

  // Row by row, each followed by `then` with its number among the call's. With `codes` a row of
  // these is computed in place of values, if the kernels do that.
  void RunDepthwise(const ExpandedWindow& input, const MatrixCodes* codes,
                    const std::function<void(int64_t y)>& then);

 private:
  void RunDepthwiseCodes(DepthwiseTile tile, const ExpandedWindow& input, int64_t y,
                         const MatrixCodes& codes);

  // Pixel number in the window's own values of column 0 of a row.
  int64_t OwnRow(int64_t y) const {
    return (y - window_.row_begin) * (window_.column_end - window_.column_begin) -
           window_.column_begin;
  }

  void RunBlock(int64_t block);
  void SetParts();
  void SetTaps(int32_t row_class);
  void Flush(int32_t row_class);

  struct PartOfBlock {
    Segment* segment;
    const uint8_t* plane;      // rows of position 0
    const uint8_t* first_row;  // of the first valid row of taps from there
    int64_t position_bytes;
    const uint8_t* weights;    // of tap 0
    int64_t row_weights;       // bytes of a row of taps
  };

  const Call& call_;
  const Window window_;
  float* const values_;
  uint8_t* const out_;  // the window's own values or the call's out; four bytes an output
  const ExpandedWindow* input_ = nullptr;

  int64_t group_ = 0, within_ = 0;  // the block
  int64_t first_ = 0, outputs_ = 0;
  Tile tile_ = {};
  PartOfBlock parts_[3];
  int num_parts_ = 0;
  int32_t row_class_ = -1;  // whose taps the segments hold
  alignas(64) float scale_[kWideBlock], bias_[kWideBlock];
  // Of the tile's pixels: among all outputs, where values go, and in the expanded window.
  int64_t pixel_[kMaxTile], out_pixel_[kMaxTile], position_[kMaxTile];
  int32_t column_class_[kMaxTile];
};

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_TASK_H_
