// The three operations of the CPU engine, on plain pointers. Arguments that depend on a caller are
// checked; a violation throws std::invalid_argument before anything is written.
#ifndef HETJAX_XLA_CPU_CORE_OPS_H_
#define HETJAX_XLA_CPU_CORE_OPS_H_

#include <cstdint>
#include <memory>

#include "executor.h"
#include "kernels.h"
#include "layer.h"

namespace hetjax {

// Weight file bytes -> prepared weights.
//
// Ordinary layers: per group, per block of 64 outputs, per tap, per level (highest first) units of
// 256 bytes, one 32-bit word an output: four int8 weights (odd q at 2 and 4 bits, u - 128 at 8,
// zero beyond the channels) or 32 1-bit codes. Depthwise layers: int32 accumulator levels
// [taps][outputs]. Corrections int32[taps][outputs]: what a tap adds to every signed accumulator
// whatever the activations, sum over levels of 4^(pmax-p) * (channels at 1 bit,
// -(2^p - 1) * sum of q otherwise); zeros for depthwise layers.
void Relayout(const Layer& layer, const uint8_t* file, uint8_t* storage, int32_t* corrections,
              Executor& executor);

struct Geometry {
  int64_t batch, height, width;
  int64_t stride[2];
  int64_t pad_low[2], pad_high[2];
  int64_t dilation[2];

  // Throws std::invalid_argument if an extent is out of range.
  void Check() const;
  // Output extent of axis 0 (height) or 1 (width), 0 where the kernel does not fit.
  int64_t Output(int axis, int64_t kernel) const;
};

// Checks the geometry and that every buffer of a convolution has the size the others ask for:
// records, prepared weights in bytes; corrections, outputs in elements.
void CheckConv(const Layer& layer, const Geometry& geometry, int64_t records, int64_t storage,
               int64_t corrections, int64_t outputs);

// Activations as the kernels read them, made once a call.
struct Rows {
  // [pixels][layer.row_units]: per group the units of its levels, or int32 levels [outputs] for a
  // depthwise layer.
  std::unique_ptr<uint32_t[]> units;
  // [pixels][groups] what a pixel adds to every accumulator that reads it; null if always zero.
  std::unique_ptr<uint32_t[]> terms;
};

Rows ExpandRows(const Layer& layer, const uint8_t* records, int64_t pixels, bool is_signed,
                Executor& executor);

struct ConvArguments {
  const uint8_t* records;      // [batch][height][width][record_bytes]
  const uint8_t* weights;      // [storage_bytes]
  const int32_t* corrections;  // [taps][outputs]
  const float* scale;          // [outputs], or null for raw accumulators
  const float* bias;           // [outputs] with `scale`
  bool is_signed;
  void* out;                   // float, or int32_t if `scale` is null: [batch][oh][ow][outputs]
};

void Conv(const Layer& layer, const Geometry& geometry, const ConvArguments& arguments,
          const Kernels& kernels, Executor& executor);

// Records [positions][record_bytes] of x [positions][channels].
void QuantizePack(const RecordLayout& layout, const float* x, int64_t positions, float inv_beta,
                  bool is_signed, uint8_t* records, const Kernels& kernels, Executor& executor);

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_OPS_H_
