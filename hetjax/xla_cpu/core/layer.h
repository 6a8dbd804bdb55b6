// Static description of a packed layer: where every level's codes lie in records, in the weight
// file and in the prepared storage.
#ifndef HETJAX_XLA_CPU_CORE_LAYER_H_
#define HETJAX_XLA_CPU_CORE_LAYER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "format.h"
#include "matrix.h"

namespace hetjax {

// The channels of one level in one group.
struct Part {
  int64_t first;           // index of the first code within the level's record segment
  int64_t count;           // channels
  int64_t row_units;       // of a row of taps
  int64_t position_bytes;  // of an expanded position
  int64_t offset;          // within it, where levels share positions
  int64_t weights;         // first byte within a full block's prepared weights
};

// What a caller says about a layer, unchecked. `levels` increase, `bits` hold one level a channel.
struct LayerSpec {
  const int32_t* bits;
  int64_t channels;
  const int32_t* levels;
  int64_t num_levels;
  int64_t groups;
  int64_t kernel_height;
  int64_t kernel_width;
  int64_t outputs;
};

// What a caller says about the channels alone, for activation records.
class RecordLayout {
 public:
  // Throws std::invalid_argument naming what is wrong.
  RecordLayout(const int32_t* bits, int64_t channels, const int32_t* levels, int64_t num_levels);

  int64_t channels = 0;
  std::vector<int32_t> levels;            // highest first
  std::vector<std::vector<int32_t>> of;   // [level] channels, ascending
  std::vector<int64_t> segment;           // [level] first byte of the record's segment
  int64_t record_bytes = 0;
};

class Layer : public RecordLayout {
 public:
  // Throws std::invalid_argument naming what is wrong.
  Layer(const LayerSpec& spec, const Format& given_format);

  const Format& format;  // the one given, or its dense form for large matrices
  int64_t groups, kernel_height, kernel_width, taps, outputs;
  int64_t channels_per_group, outputs_per_group, blocks_per_group;
  // One input channel a group: rows hold a code a byte, weights are as in DepthwiseTile.
  bool depthwise;
  bool narrow_depthwise;  // whose weights are bytes, see DepthwiseTile

  std::vector<Part> parts;             // [group * levels + level]
  std::vector<MatrixGroup> matrices;   // [group], where the format is of such and for all but depthwise
  std::vector<int64_t> lane_bytes;     // [group] prepared bytes of one output channel
  std::vector<int64_t> group_storage;  // [group] first byte of the prepared weights
  int64_t row_bytes = 0;               // of a position's expanded rows, all groups together
  int64_t file_bytes = 0;
  int64_t storage_bytes = 0;

  const Part& part(int64_t group, size_t level) const {
    return parts[static_cast<size_t>(group) * levels.size() + level];
  }
  const UnitKind& unit(size_t level) const {
    return format.unit[LevelIndex(levels[level])];
  }
  int64_t depthwise_lanes() const {
    return (outputs + kDepthwiseGroup - 1) / kDepthwiseGroup * kDepthwiseGroup;
  }
  // Whether sums are multiplied by their levels' factors: narrow weights hold these already.
  bool has_multipliers() const { return depthwise && !narrow_depthwise; }
  int64_t depthwise_pairs() const { return (taps + 1) / 2; }
  // 4^(pmax - level).
  int32_t multiplier(size_t level) const { return 1 << 2 * (levels[0] - levels[level]); }
  bool is_matrix() const { return !matrices.empty(); }
  int64_t block_storage(int64_t group, int64_t block) const {
    const size_t g = static_cast<size_t>(group);
    return group_storage[g] + block * format.block * lane_bytes[g];
  }
  // Bytes of one output channel's row in the weight file.
  int64_t file_row_bytes(int64_t group, size_t level) const {
    return (taps * part(group, level).count * levels[level] + 7) / 8;
  }
  // Lanes of a block, padded.
  int64_t lanes(int64_t block) const {
    const int64_t left = outputs_per_group - block * format.block;
    return left >= format.block ? format.block : (left + kLaneStep - 1) / kLaneStep * kLaneStep;
  }
  // Prepared weights of a block's part: [kernel rows][row units] of `lanes` lanes.
  int64_t part_storage(int64_t group, int64_t block, size_t level) const {
    return block_storage(group, block) +
           part(group, level).weights / format.block * lanes(block);
  }

 private:
  // Plans a group's matrices and where its levels lie in positions.
  void AddMatrix(int64_t group);
};

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_LAYER_H_
