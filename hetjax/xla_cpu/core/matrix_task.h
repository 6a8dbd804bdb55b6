// One task of a convolution by matrices: a window's pixels in pieces, times some blocks of outputs.
#ifndef HETJAX_XLA_CPU_CORE_MATRIX_TASK_H_
#define HETJAX_XLA_CPU_CORE_MATRIX_TASK_H_

#include <cstdint>

#include "matrix_lines.h"
#include "rounding.h"
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
  struct Gathered {
    uint8_t* codes;
    int64_t pixel_bytes;
  };

  // A block's own: of the tile that is computed and of the one that is finished.
  struct Block {
    MatrixTile tile;
    alignas(64) float scale[kMatrixBlock], bias[kMatrixBlock];
    const uint8_t* narrow;  // codes of position 0, or of the first gathered pixel
    const uint8_t* wide;
  };

  int64_t BandTiles(bool packs) const;
  void Gather(int64_t group);
  void SumCodes(int64_t group);
  bool IsOtherGroup(int64_t group) const;
  void SetGroup(int64_t group);
  const MatrixGroup& GroupOf(int64_t block) const {
    return call_.layer.matrices[static_cast<size_t>(block / call_.layer.blocks_per_group)];
  }
  const uint8_t* Weights(int64_t block) const;
  PackedMatrix Packed(int64_t block) const;
  MatrixOperand Operand(const MatrixPart& part, bool is_wide) const;
  void SetBlock(int64_t block, bool is_last, Block* to);
  void SetPiece(const Block& block, const MatrixGroup& group, int64_t number, int side,
                MatrixTile* tile) const;

  const Call& call_;
  const Window window_;
  const ExpandedWindow& input_;
  MatrixLines lines_;
  Gathered gathered_[2];
  int64_t tiles_, band_tiles_;
  int64_t band_ = 0;            // the band's first pixel
  int64_t blocks_kept_;         // whose weights are unpacked: all, if there are several bands
  int64_t unpacked_bytes_ = 0;  // of a block
  uint8_t* unpacked_;
  MatrixSums* sums_;       // narrow and wide ones of two tiles
  Block* blocks_;
  int64_t num_codes_;
  MatrixCodes* codes_;     // of every consumer, if the task packs
  int64_t group_ = -1;     // whose codes are gathered and summed
  int32_t* code_sums_;     // of every pixel's wide codes
};

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_MATRIX_TASK_H_
