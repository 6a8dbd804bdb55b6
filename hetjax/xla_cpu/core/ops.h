// The three operations of the CPU engine, on plain pointers. Arguments that depend on a caller are
// checked; a violation throws std::invalid_argument before anything is written.
#ifndef HETJAX_XLA_CPU_CORE_OPS_H_
#define HETJAX_XLA_CPU_CORE_OPS_H_

#include <cstdint>
#include <vector>

#include "executor.h"
#include "kernels.h"
#include "layer.h"

namespace hetjax {

// What relayout computes besides the weights: int32 [kCorrections][taps][outputs], modulo 2^32.
// The first two are what a tap adds to an accumulator of signed or unsigned activations whatever
// their codes, so that T = corrections of the valid taps + factors * raw sums (kernels.h). The last
// one is the tap's whole part of a signed accumulator where all codes are zero; kernels read padded
// pixels as such. (Unsigned, that part is nothing.)
enum { kSignedCorrection = 0, kUnsignedCorrection = 1, kLowestSigned = 2, kCorrections = 3 };

// Weight file bytes -> prepared weights: per group, per block of Format::block outputs (Layer::lanes
// of the last), per level, highest first: [taps][units][planes][lanes] in the layer's format.
// Depthwise layers: as in DepthwiseTile.
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

// Packs values under one layout; holds the tables that the kernels read.
class Quantizer {
 public:
  Quantizer(RecordLayout layout, bool is_signed);
  Quantizer(const Quantizer&) = delete;
  Quantizer& operator=(const Quantizer&) = delete;

  const RecordLayout& layout() const { return layout_; }
  // Bytes of scratch that Pack and Unpack need.
  int64_t scratch_bytes() const {
    return kPackedTogether * codes_bytes() + 64 + ScratchBytes(layout_.channels);
  }
  // Values [positions][channels] -> records [positions][record_bytes].
  void Pack(const Kernels& kernels, const float* values, int64_t positions, float inv_beta,
            uint8_t* scratch, uint8_t* records) const;
  // Codes of any number of values, a byte each, where all channels have one level; up to
  // kChannelGroup more are written.
  void Encode(const Kernels& kernels, const float* values, int64_t count, float inv_beta,
              uint8_t* codes) const {
    kernels.encode(channels_, values, count, inv_beta, is_signed_, codes);
  }
  // Records of at most kPackedTogether positions -> codes [positions][codes_bytes].
  void Unpack(const Kernels& kernels, const uint8_t* records, int64_t positions, uint8_t* scratch,
              uint8_t* codes) const;
  const Channels& channels() const { return channels_; }
  bool is_signed() const { return is_signed_; }
  // Whole groups of codes.
  int64_t codes_bytes() const {
    return (layout_.channels + kChannelGroup - 1) / kChannelGroup * kChannelGroup;
  }

 private:
  void SetGather(size_t level);
  void SetWords();
  void SetSources();

  const RecordLayout layout_;
  const bool is_signed_;
  std::vector<float> steps_, caps_;
  std::vector<int32_t> half_, top_;
  std::vector<uint8_t> shuffles_[3], restores_[3], taken_[3], gathers_[3];
  std::vector<GatherSpan> spans_[3];
  std::vector<RecordWord> words_;
  std::vector<WordGather> word_gathers_;
  std::vector<CodeSource> sources_;
  Channels channels_;
};

// Records [positions][record_bytes] of x [positions][channels].
void QuantizePack(const Quantizer& quantizer, const float* x, int64_t positions, float inv_beta,
                  uint8_t* records, const Kernels& kernels, Executor& executor);

// Who reads a convolution's values as records.
struct Consumer {
  const Quantizer* quantizer;
  float inv_beta;
  uint8_t* records;  // [batch][oh][ow][record_bytes]
};

// As kernels see a consumer; `codes` are the first position's.
MatrixCodes CodesOf(const Consumer& consumer, uint8_t* codes);

struct ConvArguments {
  const uint8_t* records;      // [batch][height][width][record_bytes], or null with `values`
  const float* values;         // [batch][height][width][channels], packed by `input` on the way
  const Quantizer* input;
  float input_inv_beta;
  bool is_signed;
  const uint8_t* weights;      // [storage_bytes]
  const int32_t* corrections;  // [kCorrections][taps][outputs]
  const float* scale;          // [outputs], or null for raw accumulators
  const float* bias;           // [outputs] with `scale`
  const float* residual;       // [batch][oh][ow][outputs], or null; with `scale`
  Activation activation;       // with `scale`
  void* out;                   // float, or int32_t without `scale`: [batch][oh][ow][outputs]; may
                               // be null if there are consumers
  std::vector<Consumer> consumers;
};

// Those among an instruction set's kernels that run the layer.
inline const Kernels& KernelsOf(const Layer& layer, const Kernels& kernels) {
  const bool is_other = kernels.others != nullptr && !layer.is_matrix() && !layer.depthwise;
  return is_other ? *kernels.others() : kernels;
}

// Pixels of a full register tile of so many lanes.
inline int32_t FullTile(const Kernels& kernels, int64_t lanes) {
  return lanes > kBlock ? kernels.wide_tile : kernels.tile;
}

// Number of outputs. Throws std::invalid_argument if the geometry or the size of anything that a
// convolution needs is out of range.
int64_t CheckedOutputs(const Layer& layer, const Geometry& geometry);

// Checks the geometry and that the buffers of a convolution have the sizes it asks for: prepared
// weights in bytes; corrections, outputs in elements.
void CheckConv(const Layer& layer, const Geometry& geometry, int64_t storage, int64_t corrections,
               int64_t outputs);

void Conv(const Layer& layer, const Geometry& geometry, const ConvArguments& arguments,
          const Kernels& kernels, Executor& executor);

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_OPS_H_
