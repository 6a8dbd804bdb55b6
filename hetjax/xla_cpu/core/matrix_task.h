// One task of a convolution by matrices: a window's pixels in pieces, times some blocks of outputs.
#ifndef HETJAX_XLA_CPU_CORE_MATRIX_TASK_H_
#define HETJAX_XLA_CPU_CORE_MATRIX_TASK_H_

#include <cstdint>

#include "scratch.h"
#include "task.h"

namespace hetjax {

// Memory comes from a Carver; with one that has no buffer only sizes are counted.
class MatrixTask {
 public:
  MatrixTask(const Call& call, const Window& window, const ExpandedWindow& input, bool packs,
             Carver* memory);

  // Of blocks [begin, end): what the call's out has, and consumers' records if the task packs.
  void Run(int64_t begin, int64_t end);

 private:
  // Of consecutive pixels of the window, `pixels_` of them.
  struct Piece {
    int64_t first;     // pixel of the window
    int32_t begin;     // those before this one belong to the piece before
    int64_t position;  // of the first pixel, if pixels are where they were expanded
  };
  struct Gathered {
    uint8_t* codes;
    int64_t pixel_bytes;
  };

  int64_t PiecesOf(int64_t pixels) const { return (pixels + pixels_ - 1) / pixels_; }
  void SetPieces();
  void SetPlaces();
  void Gather(int64_t group);
  MatrixOperand Operand(const MatrixPart& part, int64_t group, bool is_wide,
                        const uint8_t* weights) const;
  void RunBlock(int64_t block);
  void PackCodes();

  const Call& call_;
  const Window window_;
  const ExpandedWindow& input_;
  const int64_t columns_;
  bool gathers_;       // pixels are brought together, since they lie apart in too many places
  int32_t pixels_;     // of a piece
  int64_t num_pieces_;
  Piece* pieces_;
  PixelPlace* places_;  // [pixels of the window]
  Gathered gathered_[2];
  uint8_t* unpacked_;
  MatrixSums* sums_;       // narrow and wide ones of two tiles
  int64_t num_codes_;
  MatrixCodes* codes_;     // of every consumer, if the task packs
  int64_t group_ = -1;  // whose codes are gathered
};

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_MATRIX_TASK_H_
