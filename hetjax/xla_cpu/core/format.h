// How an instruction set wants the codes of a level laid out: in units of a few channels.
#ifndef HETJAX_XLA_CPU_CORE_FORMAT_H_
#define HETJAX_XLA_CPU_CORE_FORMAT_H_

#include <cstdint>

namespace hetjax {

// Most pixels of a register tile.
constexpr int kMaxTile = 8;
// Output channels of a block, by format.
constexpr int kBlock = 64, kWideBlock = 128;
// A ragged last block has as many lanes as are needed, in steps of this.
constexpr int kLaneStep = 32;

struct UnitKind {
  int32_t channels;    // input channels of a unit
  int32_t lane_bytes;  // of the prepared weights, per output channel
  int32_t row_bytes;   // of an expanded pixel
  // Pixels' codes lie side by side without gaps, and units go over all channels of a row of taps;
  // otherwise every tap's channels are filled up to whole units.
  bool spans_taps = false;
  // A unit's lane_bytes lie in so many planes of all lanes, one after the other.
  int32_t planes = 1;
};

// Units by level; what raw sums they give is in kernels.h.
//   "table": look-up tables of 16 bytes. 1 and 2 bits: a byte of codes, whose nibbles the weights have
//     in two planes, a byte each; a row has the offset of the byte's two tables, 32 times the codes.
//     4 bits: int8 pairs. 8 bits: int16 pairs, over taps.
//   "table_quads": the same, but for 4 bits: int8 quadruples.
//   "vector": 512-bit vectors with bit counts and byte permutations. 1 bit: words of 32 codes;
//     2 bits: three channels in six bits of a byte; 4 bits: int8 quadruples; 8 bits: int16 pairs.
//   "matrix": matrices of bytes, see matrix.h.
//   "neon": 128-bit vectors whose lanes are the outputs in order. 1 bit: bytes of eight codes; 2 bits:
//     two channels in a nibble of a byte; 4 bits: int8 quadruples, over taps; 8 bits: int16.
// The rows of a pixel hold the activations' codes u in the same groups of channels; neon's nibbles
// are stored as 16 times their value, a pair of 4-bit codes twice in a word.
//   "table" has a dense form for large matrices, whose weights come from memory: bytes of 1- and 2-bit
//     codes as they are, and pairs of 4-bit codes in a byte. So have the next two, at the levels where
//     there is something to save: quadruples of 4-bit codes in two bytes.
struct Format {
  const char* name;
  UnitKind unit[4];  // levels 1, 2, 4, 8
  // Where output channel n of a block lies among the lanes of a unit with so many bytes each.
  int32_t (*lane)(int32_t level, int32_t n);
  const Format* dense;  // or null
  bool is_dense;
  int32_t block;  // output channels of a block
  bool has_narrow_depthwise;  // its kernels read DepthwiseTile::narrow
  // Layers lie as in matrix.h, not in units; those whose format is another one (large matrices, and
  // what has no use for matrices) are for other kernels.
  bool is_matrix = false;
};

const Format& TableFormat();
const Format& TableQuadsFormat();
const Format& VectorFormat();
const Format& MatrixFormat();
const Format& NeonFormat();
// Null if there is none of that name.
const Format* FindFormat(const char* name);

inline int LevelIndex(int level) { return level == 1 ? 0 : level == 2 ? 1 : level == 4 ? 2 : 3; }

// ---- Matrices, see matrix.h.

// Codes of a step, which a row of a matrix holds; those of a quad, four channels, lie together.
constexpr int64_t kStepCodes = 64, kQuad = 4;
// Output channels of a block, two matrices side by side.
constexpr int64_t kMatrixBlock = 32;
// Unpacked weights of a step of a block.
constexpr int64_t kStepBytes = kStepCodes * kMatrixBlock;

// Quads one after another whose channels have the same level; 8 where they have not, and where some
// are missing. Packed weights of a quad and 16 output channels are 64 codes of that level. Code
// number i = 4 * output + channel lies in
//   1 bit: bit i;   2 bits: byte i % 16 from bit i / 16 * 2 on;   4 bits: byte i % 32, bit i / 32 * 4
//   8 bits: byte i, which is the unpacked weight.
struct QuadRun {
  int32_t level;
  int32_t quads;
};

// Where up to 64 codes of an expanded position, one after another, come from: bytes of a record.
struct CodeSource {
  int64_t record;      // first byte in the record
  uint64_t reads;      // which of 64 bytes from there on are read
  int64_t position;    // first byte in the position
  uint64_t writes;     // which of 64 bytes from there on are codes
  uint8_t byte[64];    // of the record's, every code's
  uint8_t shift[64];   // the code's first bit, counted from the vector's eight bytes that it lies in
  uint8_t mask[64];    // 2^level - 1
};

// ---- Depthwise layers.

// They take outputs in groups of this many.
constexpr int kDepthwiseGroup = 32;
// Place of an output among its group's weights: interleaving two 256-bit vectors' codes twice, half
// by half, leaves them in this order.
constexpr int64_t DepthwiseLane(int64_t n) {
  return (n & ~int64_t{31}) + (n & 3) + (n >> 2 & 4) + 2 * (n & 12);
}
// The same for weights in bytes, where codes are interleaved once.
constexpr int64_t NarrowLane(int64_t n) {
  return (n & ~int64_t{31}) + (n & 7) + (n >> 1 & 8) + 2 * (n & 8);
}
// Products of 4 bits, at most 15 * 15, whose sums 16 bits hold.
constexpr int64_t kNarrowTaps = 32767 / 225;

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_FORMAT_H_
