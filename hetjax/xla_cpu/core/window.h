// The input pixels of one window, expanded to units.
#ifndef HETJAX_XLA_CPU_CORE_WINDOW_H_
#define HETJAX_XLA_CPU_CORE_WINDOW_H_

#include <cstdint>
#include <vector>

#include "ops.h"
#include "scratch.h"
#include "taps.h"

namespace hetjax {

class ExpandedWindow {
 public:
  // Takes its memory from `memory`; with a Carver without a buffer only the size is counted.
  ExpandedWindow(const Layer& layer, const Geometry& geometry, const ConvArguments& arguments,
                 const Window& window, Carver* memory);

  // Reads the records or values; pixels outside the image get the lowest codes.
  void Fill(const Kernels& kernels);

  const AxisPlan& y() const { return y_; }
  const AxisPlan& x() const { return x_; }
  // Where the first tap of an output of the window lies; the next row of taps is x().size() later.
  int64_t Position(int64_t y, int64_t x) const {
    return y_.Position(y) * x_.size() + x_.Position(x);
  }
  // A part's rows, PartBytes for every position.
  const uint8_t* Rows(int64_t group, size_t level) const {
    return planes_[static_cast<size_t>(group) * layer_.levels.size() + level];
  }
  int64_t PartBytes(int64_t group, size_t level) const {
    return layer_.part(group, level).position_bytes;
  }
  // Matrix layers: a group's narrow and wide codes, MatrixPart::channels for every position.
  const uint8_t* Matrix(int64_t group, bool is_wide) const {
    return whole_[static_cast<size_t>(2 * group + is_wide)].rows;
  }
  // Depthwise layers: the codes of a position, one for every output, Layer::depthwise_lanes apart.
  const uint8_t* Codes(int64_t position) const {
    return codes_ + position * layer_.depthwise_lanes();
  }

 private:
  // Positions of a row that hold consecutive columns of the image, or none of its.
  struct Run {
    int64_t position, count;
    int64_t column;  // or -1
  };

  int64_t SetRuns();  // how many those are
  void FillValues(const Kernels& kernels, const float* values, int64_t pixels, int64_t position);
  void FillPixels(const Kernels& kernels, const uint8_t* records, int64_t pixels, int64_t position);
  void FillParts(const Kernels& kernels, const uint8_t* records, int64_t pixels, int64_t position);
  void FillMatrices(const Kernels& kernels, const uint8_t* records, int64_t pixels,
                    int64_t position);
  void FillCodes(const Kernels& kernels, const uint8_t* records, int64_t pixels, int64_t position);
  void Clear(int64_t position, int64_t pixels);
  uint8_t* TakePlane(int64_t position_bytes, Carver* memory);

  const Layer& layer_;
  const Geometry& geometry_;
  const ConvArguments& arguments_;
  const int64_t image_;
  const AxisPlan y_, x_;
  // All that is expanded: what one position takes, and position 0.
  struct Plane {
    uint8_t* rows;
    int64_t position_bytes;
  };
  std::vector<Plane> whole_;
  std::vector<uint8_t*> planes_;  // [group * levels + level], but for matrices
  Run* runs_ = nullptr;           // [columns]
  uint8_t* codes_ = nullptr;
  uint8_t* scratch_ = nullptr;    // of the quantizer
  uint8_t* row_records_ = nullptr;  // records of a row of values
  uint8_t* bytes_ = nullptr;        // some positions' codes or one group's bits
};

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_WINDOW_H_
