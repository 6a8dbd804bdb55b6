#include "matrix_lines.h"

#include <algorithm>

#include "rounding.h"

namespace hetjax {
namespace {

// Shorter pieces leave the instructions waiting for weights; bringing pixels together then costs less.
constexpr int64_t kShortPiece = 12;

}  // namespace

MatrixLines::MatrixLines(const Window& window, const ExpandedWindow& input, Carver* memory)
    : rows_(window.row_end - window.row_begin), columns_(window.column_end - window.column_begin) {
  Plan(input.y(), input.x());
  pixels = static_cast<int32_t>(CeilDiv(line_pixels, CeilDiv(line_pixels, kPiece)));
  num_pieces = lines * CeilDiv(line_pixels, pixels);
  pieces = memory->Take<Piece>(num_pieces);
  places = memory->Take<PixelPlace>(all());
}

void MatrixLines::Plan(const AxisPlan& y, const AxisPlan& x) {
  const int64_t each = CeilDiv(columns_, CeilDiv(columns_, kPiece));
  const int64_t apart = rows_ * CeilDiv(columns_, kPiece);
  const bool can_join = rows_ > 1 && x.dilation == 1 && y.dilation == 1 &&
                        y.stride * x.size() % x.stride == 0;
  row_step_ = can_join ? y.stride * x.size() / x.stride : columns_;
  const int64_t joined = (rows_ - 1) * row_step_ + columns_;
  // Joined pixels are read where they are, which is worth some more pieces than gathered ones take,
  // but larger pieces read more as well, which has to be worth it.
  if (can_join && 12 * CeilDiv(joined, kPiece) <= 11 * apart &&
      4 * CeilDiv(joined, kPiece) <= 5 * CeilDiv(rows_ * columns_, kPiece)) {
    lines = 1;
    line_pixels = joined;
    return;
  }
  row_step_ = columns_;
  gathers = x.dilation > 1 || (each < kShortPiece && rows_ > 1);
  lines = gathers ? 1 : rows_;
  line_pixels = gathers ? rows_ * columns_ : columns_;
}

void MatrixLines::Set(const Call& call, const Window& window, const ExpandedWindow& input) {
  Piece* piece = pieces;
  for (int64_t line = 0; line < lines; ++line) {
    for (int64_t x = 0; x < line_pixels; x += pixels, ++piece) {
      // The last piece of a line begins early enough to be a whole one.
      const int64_t first = std::min(x, line_pixels - pixels);
      piece->first = line * line_pixels + first;
      piece->begin = static_cast<int32_t>(x - first);
      piece->position = gathers ? 0 : input.Position(line, first);
    }
  }
  SetPlaces(call, window);
}

void MatrixLines::SetPlaces(const Call& call, const Window& window) {
  const int64_t size = call.constants.size();
  const int32_t* const column_class = call.columns.of.data();
  PixelPlace* place = places;
  for (int64_t y = window.row_begin; y < window.row_end; ++y) {
    const int64_t row = (window.image * call.height + y) * call.width;
    const int32_t row_class = call.rows.of[static_cast<size_t>(y)];
    const int64_t constants = call.constants.Of(row_class, 0) - call.constants.Of(0, 0);
    for (int64_t x = window.column_begin; x < window.column_end; ++x, ++place) {
      *place = {constants + column_class[x] * size, row + x, true};
    }
    for (int64_t x = columns_; x < row_step_ && y + 1 < window.row_end; ++x, ++place) {
      *place = place[-1];
      place->is_output = false;
    }
  }
}

}  // namespace hetjax
