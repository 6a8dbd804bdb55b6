// The inner loops, one table per instruction set.
//
// The translation units that fill the tables are compiled for instructions the machine may lack.
// They must not emit inline functions of the standard library or of shared headers: the linker
// keeps one copy of such a function, perhaps theirs. This header therefore holds plain data only.
#ifndef HETJAX_XLA_CPU_CORE_KERNELS_H_
#define HETJAX_XLA_CPU_CORE_KERNELS_H_

#include <cstdint>

namespace hetjax {

// A register tile is kTile pixels by kBlock output channels.
constexpr int kTile = 4;
constexpr int kBlock = 64;
// A unit holds four 8-bit codes or 32 1-bit codes for each output channel of a block.
constexpr int kUnitBytes = 4 * kBlock;

// One level's part of a tile: sums[i][n] += factor * sum over units of raw(row unit, weight unit),
// modulo 2^32.
struct Tile {
  const uint8_t* weights;       // prepared weights of the block, tap 0
  const int32_t* weight_units;  // [count] unit within the block
  const uint32_t* rows;         // expanded activation rows
  const int64_t* row_units;     // [count] unit relative to a pixel's base
  int64_t base[kTile];          // a pixel's base unit; may be negative where taps are cut off
  int32_t pixels;               // 1 .. kTile
  int32_t count;                // units
  uint32_t factor;
  uint32_t* sums;               // [kTile][kBlock]
};

// Depthwise: sums[n] += sum over taps of rows[row_offsets[t] + n] * weights[weight_offsets[t] + n].
struct DepthwiseTile {
  const int32_t* rows;
  const int64_t* row_offsets;     // [taps]
  const uint8_t* weights;         // int32 levels, of any alignment
  const int64_t* weight_offsets;  // [taps]
  int64_t taps;
  int32_t outputs;                // 1 .. kBlock
  uint32_t* sums;                 // [kBlock]
};

// How to quantize one position's channels, in their own order; arrays are padded to whole groups.
struct Channels {
  int64_t count;
  const float* steps;   // steps of the channel's codes per unit of beta
  const int32_t* half;  // code of the grid's centre, 2^(p - 1)
  const int32_t* top;   // largest code, 2^p - 1
};
// Channels encoded at once; the codes' buffer holds whole groups.
constexpr int kChannelGroup = 32;

struct Kernels {
  const char* name;
  void (*differing_bits)(const Tile&);  // raw = popcount(a ^ w)
  void (*common_bits)(const Tile&);     // raw = popcount(a & w)
  void (*dot_small)(const Tile&);       // raw = dot of u8 codes <= 15 and s8 weights of at most 15
  void (*dot_wide)(const Tile&);        // raw = dot of any u8 codes and s8 weights
  void (*depthwise)(const DepthwiseTile&);
  // y[n] = fma(float(sums[n]), scale[n], bias[n]).
  void (*epilogue)(const uint32_t* sums, const float* scale, const float* bias, int64_t count,
                   float* y);
  // Codes of values [count]: to_grid and encode of hetjax/core/quantize.py.
  void (*encode)(const Channels& channels, const float* values, float inv_beta, bool is_signed,
                 uint8_t* codes);
};

// Null where the build has no such path.
const Kernels* ScalarKernels();
const Kernels* Avx2Kernels();
const Kernels* Avx512Kernels();

// The kernels of this call: the forced ones, or the best the machine has. Throws
// std::invalid_argument if HETJAX_CPU_ISA names ones that cannot run here.
const Kernels& ActiveKernels();

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_KERNELS_H_
