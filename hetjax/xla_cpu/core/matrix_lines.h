// How a window's pixels are cut into pieces for matrices: see MatrixTile.
#ifndef HETJAX_XLA_CPU_CORE_MATRIX_LINES_H_
#define HETJAX_XLA_CPU_CORE_MATRIX_LINES_H_

#include <cstdint>

#include "scratch.h"
#include "task.h"

namespace hetjax {

// Lines of pixels equally far apart: the window's rows, or all pixels in one line. In one line they are
// gathered, since they lie apart in too many places, or joined by the positions that lie between the
// last pixel of a row and the first of the next, which are no output's but computed as well.
class MatrixLines {
 public:
  // Consecutive pixels of a line, `pixels` of them.
  struct Piece {
    int64_t first;     // among those of all lines
    int32_t begin;     // those before this one belong to the piece before
    int64_t position;  // of the first pixel, unless pixels are gathered
  };

  MatrixLines(const Window& window, const ExpandedWindow& input, Carver* memory);

  // Fills in pieces and places.
  void Set(const Call& call, const Window& window, const ExpandedWindow& input);

  int64_t all() const { return lines * line_pixels; }

  bool gathers = false;
  int64_t lines, line_pixels;
  int32_t pixels;
  int64_t num_pieces;
  Piece* pieces;
  PixelPlace* places;  // of all pixels

 private:
  void Plan(const AxisPlan& y, const AxisPlan& x);
  void SetPlaces(const Call& call, const Window& window);

  const int64_t rows_, columns_;
  int64_t row_step_;  // pixels from a row to the next in the line that they share
};

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_MATRIX_LINES_H_
