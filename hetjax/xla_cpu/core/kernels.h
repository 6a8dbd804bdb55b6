// The inner loops, one table per instruction set.
//
// The translation units that fill the tables are compiled for instructions the machine may lack.
// They must not emit inline functions of the standard library or of shared headers: the linker
// keeps one copy of such a function, perhaps theirs. This header therefore holds plain data only.
#ifndef HETJAX_XLA_CPU_CORE_KERNELS_H_
#define HETJAX_XLA_CPU_CORE_KERNELS_H_

#include <cstdint>

#include "format.h"

namespace hetjax {

enum class Activation : int32_t { kNone = 0, kRelu = 1, kRelu6 = 2 };

// One level's part of a tile. With the odd levels a' = 2 u - (2^p - 1) of activations and q of
// weights, and m = 2^p - 1, a unit of P channels gives the raw sum
//   1 and 2 bits: (sum of a' q + P m^2) / 2, channels beyond the layer's counted as a' q = m^2
//   4 and 8 bits: sum of u q, channels beyond the layer's counted as 0
struct Segment {
  int32_t runs;                   // of contiguous units, in rows and in weights
  int32_t units;                  // of a run
  int64_t run_bytes;              // from one run's start to the next in a plane of rows
  const uint8_t* weights;         // [runs * units] units
  const uint8_t* rows[kMaxTile];  // first unit of every pixel
};

// A register tile: pixels times lanes of one block of output channels.
//   T[i][n] = constants[i][n] + sum over levels of factor * raw sums, modulo 2^32,
// with factors that are powers of two, the larger ones those of fewer bits,
// is written, or with a scale y = fma(float(T), scale, bias), + residual, then the activation.
struct Tile {
  int32_t pixels;  // 1 .. the kernels' full tile for these lanes
  int32_t lanes;   // a multiple of kLaneStep, at most the format's block
  bool is_dense;   // weights are in the format's dense form
  Segment segment[4];                   // by level index; runs = 0 where there is none
  uint32_t table_factor;                // of raw sums at 2 bits, and of 2^table_shift at 1 bit
  int32_t table_shift;
  uint32_t dot_factor;                  // of raw sums at 4 bits
  uint32_t wide_factor;                 // of raw sums at 8 bits
  const uint32_t* constants[kMaxTile];  // [lanes]
  const float* scale;                   // [lanes], or null for accumulators
  const float* bias;                    // [lanes]
  const float* residual[kMaxTile];      // [lanes] each, or all null
  Activation activation;
  void* out[kMaxTile];  // [lanes] uint32_t or float
};

// Matrices: up to two pieces of the same number of pixels, at most kPiece, times one block of
// outputs. The pixels of a piece are equally far apart.
constexpr int kPiece = 16, kPieces = 2;
using MatrixSums = int32_t[kPieces][kPiece][kMatrixBlock];

struct MatrixOperand {
  int64_t runs = 0;          // rows of taps, of
  int64_t steps;             // steps each; 0 runs where there are no channels
  int64_t codes;             // of a row that count; what follows meets weights of zero
  int64_t run_bytes;         // from one row of taps to the next
  int64_t pixel_bytes;       // from one pixel to the next
  const uint8_t* first[kPieces];  // pixel's codes
  const uint8_t* weights;    // [runs][steps] unpacked
};

struct PixelPlace {
  int64_t constants;  // where its own begin
  int64_t pixel;      // among all of the call
  bool is_output;     // if not, nothing is written; all else is that of a pixel that is
};

struct Channels;

// A consumer's codes, a byte each, and its records.
struct MatrixCodes {
  const Channels* channels;
  bool is_signed;
  bool is_plain;         // unsigned, and inv_beta positive and so small that what is flushed to
                         // zero would have the code of zero anyway
  float inv_beta;
  uint8_t* codes;        // [slots, of outputs or not][pixel_bytes]
  int64_t pixel_bytes;
  uint8_t* records;      // [pixels of the call][record_bytes]
  int64_t record_bytes;
};

//   T[i][n] = constants[i][n] + narrow_factor * narrow sums + wide_factor * (2 * wide sums + sum of the
//   wide codes), modulo 2^32; then as in Tile.
struct MatrixTile {
  int32_t pieces, pixels;
  int32_t begin[kPieces];  // pixels of a piece before this one are not wanted
  int32_t lanes;           // outputs that are, at most kMatrixBlock; all constants, scales and biases are there
  MatrixOperand narrow, wide;
  uint32_t narrow_factor, wide_factor;  // powers of two
  const PixelPlace* places[kPieces];    // [pixels]
  const int32_t* code_sums;             // of the wide codes of every pixel of the task
  int64_t pixel[kPieces];               // of the first one among the task's
  int64_t slot[kPieces];                // of the first one among the codes of consumers
  int64_t num_codes;
  const MatrixCodes* codes;             // [num_codes]
  int64_t first;                        // the block's first output
  int64_t outputs;                      // of the layer
  bool is_last;                         // of a pixel's blocks: codes are packed
  const uint32_t* constants;            // of the block's first output, as are the next four; or null
  const float* scale;                   // or null for accumulators
  const float* bias;
  const float* residual;                // or null
  void* out;                            // or null
  Activation activation;
  MatrixSums* narrow_sums;              // working memory
  MatrixSums* wide_sums;
};

// A block's narrow weights on the way to being unpacked, from the first step to the last.
struct PackedMatrix {
  const QuadRun* runs;    // of a row of taps
  int64_t num_runs;
  int32_t top;            // highest level of the palette below 8
  const uint8_t* packed;  // the next quad, its run and its number within that
  int64_t run;
  int32_t quad;
  uint8_t* unpacked;      // the next step
};

// What is done while products are computed.
struct MatrixWork {
  const MatrixTile* packed;    // a tile that is finished, whose codes are packed if it is_last, or null
  const MatrixTile* finished;  // a tile whose sums are there, or null
  PackedMatrix* unpacked;      // of which so many steps are unpacked
  int64_t steps;
};

struct MatrixKernels {
  // Come before and after all tiles of so many pixels, in the thread that runs them.
  void (*begin)(int32_t pixels);
  void (*end)();
  // Records of pixels to a part's codes of as many positions, a byte each.
  void (*expand)(const CodeSource* sources, int64_t num_sources, const uint8_t* records,
                 int64_t record_bytes, int64_t pixels, uint8_t* positions, int64_t position_bytes);
  // Sums of the codes of so many pixels from the operand's first one on.
  void (*sum)(const MatrixOperand& codes, int64_t pixels, int32_t* sums);
  // Computes a tile's sums, or none if it is null, and does the work.
  void (*run)(const MatrixTile* multiplied, const MatrixWork& meanwhile);
};

// Depthwise: T[n] = multiplier[n] * sum over taps t of rows[row_offsets[t] + n] * q[t][n] +
// constants[n], modulo 2^32, with codes u in rows and odd levels q. Taps come in pairs, the last of
// an odd number with one whose q are zero. Rows and weights are there for whole groups of outputs.
// Where no level has more than 4 bits weights may be narrow: bytes that hold q times the level's
// factor, sums of whose products fit 16 bits, and narrow_multiplier stands for multiplier[n].
struct DepthwiseTile {
  const uint8_t* rows;
  const int64_t* row_offsets;     // [2 * pairs]
  const int16_t* weights;         // [pairs][whole groups of outputs][2], see DepthwiseLane, or null
  const int8_t* narrow;           // the same as bytes, see NarrowLane, or null
  int64_t pairs;
  int64_t outputs;                // any number
  const int32_t* multiplier;      // [outputs], with the factor 2 of signed activations; not if narrow
  uint32_t narrow_multiplier;     // 2 for signed activations, otherwise 1
  const uint32_t* constants;      // [outputs]
  const float* scale;             // as in Tile
  const float* bias;
  const float* residual;
  Activation activation;
  void* out;
};

// How to quantize and pack one position's channels. Arrays are padded to whole groups.
constexpr int kChannelGroup = 32;
constexpr int kCompactGroup = 16;
constexpr int kPackedTogether = 8;
// Codes in slots of whole words, and those words, of three levels.
constexpr int64_t ScratchBytes(int64_t channels) {
  return kPackedTogether * 2 * (channels + 64) + 3 * 80;
}

// Groups of channels from which a vector of 16 slots takes its codes.
struct GatherSpan {
  int32_t first, count;
};

// Eight bytes of a record, bit by bit: which groups of 64 channels they hold codes of, and each bit's
// place in its code, as a mask; 0 where there is none.
struct RecordWord {
  int32_t first, count;
  uint8_t bit[64];
};

// What a word takes of a group: which bits, and of which channel's code each.
struct WordGather {
  uint64_t mask;
  uint8_t from[64];
};

struct Channels {
  int64_t count;
  // All channels have one level. The first group of the tables then serves for any number of values
  // one after another, and channels need not be sorted.
  bool is_uniform;
  const float* steps;   // steps of the channel's codes per unit of beta
  const float* caps;    // a value above the most steps that count, and no more than one above
  const int32_t* half;  // code of the grid's centre, 2^(p - 1)
  const int32_t* top;   // largest code, 2^p - 1
  int32_t levels;       // of the palette, 1 .. 3, highest first
  int32_t level[3];
  int64_t count_of[3];       // channels at a level
  int64_t segment[3];        // first byte of the level's segment in a record
  const int32_t* of[3];      // [count_of] channels, ascending
  const uint8_t* shuffle[3]; // [groups of 16][16] byte shuffles that move a level's codes to the front
  const uint8_t* taken[3];   // [groups of 16] how many codes those are
  // A level's codes in the order of a record, zeros up to whole words: [vectors of 16 slots] where
  // they come from, and for every group of a span in turn a byte shuffle [16].
  const GatherSpan* spans[3];
  const uint8_t* gather[3];
  const RecordWord* words;      // of all levels; the record's last one may be four bytes
  const WordGather* gathers;    // of every word's groups in turn
  const uint8_t* restore[3]; // [groups of 16][16] byte shuffles that move them back
  // The way back at once: of 64 channels in turn a source a level, the first of which writes zeros
  // where the last kChannelGroup has no channels.
  const CodeSource* sources;
  int64_t num_sources;
};

// One level's packed codes of some pixels -> their rows of units.
struct Expansion {
  const uint8_t* packed;  // from bit 0 on, whole 32-bit words
  int64_t packed_bytes;   // from one pixel to the next
  int64_t pixels;
  int64_t count;          // channels
  uint8_t* rows;          // with kRowSlack bytes behind the last one
  int64_t row_bytes;      // of a pixel
};
constexpr int kRowSlack = 64;

struct Kernels {
  const char* name;
  const Format& (*format)();
  int32_t tile;  // pixels of a full tile
  int32_t wide_tile;  // of one of more than kBlock lanes
  void (*run)(const Tile&);
  void (*depthwise)(const DepthwiseTile&);
  // So many pixels of a row with narrow weights, whose rows of codes are equally far apart and
  // whose residuals lie one after another, to a plain consumer's codes, of whole groups. Or null.
  void (*depthwise_codes)(const DepthwiseTile& first, int64_t pixels, int64_t row_step,
                          const MatrixCodes& to, uint8_t* codes);
  void (*expand[4])(const Expansion&);  // by level index
  // Codes of values [count], where count is that of the channels, or any if they are uniform:
  // to_grid and encode of hetjax/core/quantize.py. The last kChannelGroup is filled up with codes.
  void (*encode)(const Channels& channels, const float* values, int64_t count, float inv_beta,
                 bool is_signed, uint8_t* codes);
  // Codes, `codes_bytes` for every position, to records, of at most kPackedTogether positions; codes
  // of that many may be read, in whole groups. `scratch` holds ScratchBytes(count).
  void (*pack)(const Channels& channels, const uint8_t* codes, int64_t positions,
               int64_t codes_bytes, uint8_t* scratch, uint8_t* records, int64_t record_bytes);
  // Records to codes, `codes_bytes` for every position, whole groups of which are written; otherwise
  // as `pack`.
  void (*unpack)(const Channels& channels, const uint8_t* records, int64_t positions,
                 int64_t record_bytes, uint8_t* scratch, uint8_t* codes, int64_t codes_bytes);
  // Of layers that lie in matrices, and the kernels of the other layers, which so have other formats.
  const MatrixKernels* matrix = nullptr;
  const Kernels* (*others)() = nullptr;
};

// Null where the build has no such path.
const Kernels* ScalarKernels();
const Kernels* Avx2Kernels();
const Kernels* Avx2VnniKernels();
const Kernels* Avx512Kernels();
const Kernels* Avx512VnniKernels();
const Kernels* AmxKernels();
const Kernels* NeonKernels();

// The kernels of this call: the forced ones, or the best the machine has. Throws
// std::invalid_argument if HETJAX_CPU_ISA names ones that cannot run here.
const Kernels& ActiveKernels();

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_KERNELS_H_
