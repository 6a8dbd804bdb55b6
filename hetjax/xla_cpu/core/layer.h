// Static description of a packed layer: where every level's codes lie in records, in the weight
// file and in the prepared storage.
#ifndef HETJAX_XLA_CPU_CORE_LAYER_H_
#define HETJAX_XLA_CPU_CORE_LAYER_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels.h"

namespace hetjax {

// The channels of one level in one group.
struct Part {
  int64_t first;   // index of the first code within the level's record segment
  int64_t count;   // channels
  int64_t units;   // 32-bit units per position: ceil(count / 4), 1-bit ceil(count / 32)
  int64_t offset;  // first unit within the group's row
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
  explicit Layer(const LayerSpec& spec);

  int64_t groups, kernel_height, kernel_width, taps, outputs;
  int64_t channels_per_group, outputs_per_group, blocks_per_group;
  // One input channel a group: weights and rows are int32 accumulator levels, nothing is packed.
  bool depthwise;

  std::vector<Part> parts;             // [group * levels + level]
  std::vector<int64_t> group_units;    // [group] units of a position
  std::vector<int64_t> group_offset;   // [group] first unit within a position's row
  std::vector<int64_t> group_storage;  // [group] first byte of the prepared weights
  int64_t row_units = 0;               // 32-bit words of a position's expanded row
  int64_t file_bytes = 0;
  int64_t storage_bytes = 0;

  const Part& part(int64_t group, size_t level) const {
    return parts[static_cast<size_t>(group) * levels.size() + level];
  }
  // 4^(pmax - level).
  int32_t multiplier(size_t level) const { return 1 << 2 * (levels[0] - levels[level]); }
  // Bytes of one output channel's row in the weight file.
  int64_t file_row_bytes(int64_t group, size_t level) const {
    return (taps * part(group, level).count * levels[level] + 7) / 8;
  }
  // Prepared weights of tap 0 of a block.
  int64_t block_storage(int64_t group, int64_t block) const {
    const size_t g = static_cast<size_t>(group);
    return group_storage[g] + block * taps * group_units[g] * kUnitBytes;
  }
};

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_LAYER_H_
