// How layers lie in memory for instructions that multiply whole matrices (Intel's AMX): 16 pixels of
// 64 codes each times 64 codes of 16 output channels at once.
//
// Codes of all levels are bytes, and so are the weights once they are unpacked: odd levels times what
// their level counts more than the highest one. Channels of several levels therefore are one product.
// Only 8 bits are a part of their own: an odd level q there needs nine bits, q = 2 w + 1, and
//   sum of u q = 2 (sum of u w) + (sum of u).
#ifndef HETJAX_XLA_CPU_CORE_MATRIX_H_
#define HETJAX_XLA_CPU_CORE_MATRIX_H_

#include <cstdint>
#include <vector>

#include "format.h"

namespace hetjax {

// Code number `at` of a source begins at a bit of byte number `from`.
void AddCode(int64_t at, int64_t from, int64_t bit, int level, CodeSource* source);

// Channels of 1, 2 and 4 bits, or those of 8.
struct MatrixPart {
  int64_t channels = 0;          // bytes of an expanded position
  int64_t steps = 0;             // of a row of taps
  std::vector<QuadRun> quads;    // of a row of taps
  int64_t row_bytes = 0;         // packed weights of a row of taps and a block
  int64_t weights = 0;           // first byte within a block's weights
  std::vector<CodeSource> sources;  // of a position

  // Adds channels of a level, from a bit of the record on, to positions from a byte on, in order.
  void AddSources(int32_t level, int64_t count, int64_t first_bit, int64_t position);
};

// One group of a layer. Weights of a block: [part][row of taps][quad][16 outputs, the other 16] for
// narrow channels; whole steps as the instructions read them, [step][half][16 quads], for wide ones.
struct MatrixGroup {
  MatrixPart narrow, wide;
  int64_t block_bytes = 0;
  int32_t top = 0;               // highest level of the palette below 8, or 0
};

// `levels`, highest first, are the palette's; `counts` the group's channels of each.
MatrixGroup PlanMatrix(const std::vector<int32_t>& levels, const std::vector<int64_t>& counts,
                       int64_t kernel_height, int64_t kernel_width);

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_MATRIX_H_
