#include <algorithm>
#include <cstring>

#include "bits.h"
#include "ops.h"

namespace hetjax {
namespace {

// Reads one output channel's row of one level in the weight file.
struct FileRow {
  const uint8_t* bytes;
  int64_t size;

  uint32_t Codes(int64_t code, int64_t count, int level) const {
    return ReadBits(bytes, size, code * level, static_cast<int>(count * level));
  }
};

// Start of the rows of every group in every level: [group * levels + level].
std::vector<int64_t> RowStarts(const Layer& layer) {
  std::vector<int64_t> starts(layer.parts.size());
  int64_t next = 0;
  for (size_t l = 0; l < layer.levels.size(); ++l) {
    for (int64_t g = 0; g < layer.groups; ++g) {
      starts[static_cast<size_t>(g) * layer.levels.size() + l] = next;
      next += layer.file_row_bytes(g, l) * layer.outputs_per_group;
    }
  }
  return starts;
}

int32_t OddLevel(uint32_t code, int level) {
  return 2 * static_cast<int32_t>(code) - ((1 << level) - 1);
}

// Four weights of a unit from `count` codes, and the sum of their odd levels.
uint32_t DotUnit(uint32_t packed, int64_t count, int level, int32_t* sum) {
  const uint32_t codes = SpreadCodes(packed, level);
  uint32_t unit = 0;
  for (int i = 0; i < count; ++i) {
    const uint32_t code = codes >> 8 * i & 0xff;
    const int32_t odd = OddLevel(code, level);
    const int32_t stored = level == 8 ? static_cast<int32_t>(code) - 128 : odd;
    unit |= (static_cast<uint32_t>(stored) & 0xff) << 8 * i;
    *sum += odd;
  }
  return unit;
}

void RelayoutOutput(const Layer& layer, const std::vector<int64_t>& starts, const uint8_t* file,
                    int64_t n, uint8_t* storage, int32_t* corrections) {
  const int64_t g = n / layer.outputs_per_group, row = n % layer.outputs_per_group;
  uint8_t* lane = storage + layer.block_storage(g, row / kBlock) + 4 * (row % kBlock);
  for (size_t l = 0; l < layer.levels.size(); ++l) {
    const Part& part = layer.part(g, l);
    if (part.count == 0) continue;
    const int level = layer.levels[l];
    const int64_t per_unit = level == 1 ? 32 : 4;
    const int64_t row_bytes = layer.file_row_bytes(g, l);
    const size_t at = static_cast<size_t>(g) * layer.levels.size() + l;
    const FileRow codes = {file + starts[at] + row * row_bytes, row_bytes};
    for (int64_t tap = 0; tap < layer.taps; ++tap) {
      int64_t unit_at = tap * layer.group_units[static_cast<size_t>(g)] + part.offset;
      int32_t sum = 0;
      for (int64_t first = 0; first < part.count; first += per_unit, ++unit_at) {
        const int64_t count = part.count - first < per_unit ? part.count - first : per_unit;
        uint32_t unit = codes.Codes(tap * part.count + first, count, level);
        if (level != 1) unit = DotUnit(unit, count, level, &sum);
        std::memcpy(lane + unit_at * kUnitBytes, &unit, 4);
      }
      // Modulo 2^32: only the accumulator as a whole is promised to fit.
      const uint32_t constant =
          level == 1 ? static_cast<uint32_t>(part.count)
                     : static_cast<uint32_t>((1 << level) - 1) * (0u - static_cast<uint32_t>(sum));
      int32_t& correction = corrections[tap * layer.outputs + n];
      correction = static_cast<int32_t>(static_cast<uint32_t>(correction) +
                                        static_cast<uint32_t>(layer.multiplier(l)) * constant);
    }
  }
}

void RelayoutDepthwise(const Layer& layer, const std::vector<int64_t>& starts, const uint8_t* file,
                       int64_t n, uint8_t* storage) {
  const int64_t g = n / layer.outputs_per_group;
  size_t l = 0;
  while (layer.part(g, l).count == 0) ++l;
  const int level = layer.levels[l];
  const int64_t row_bytes = layer.file_row_bytes(g, l);
  const size_t at = static_cast<size_t>(g) * layer.levels.size() + l;
  const FileRow codes = {file + starts[at] + n % layer.outputs_per_group * row_bytes, row_bytes};
  for (int64_t tap = 0; tap < layer.taps; ++tap) {
    const int32_t value =
        OddLevel(codes.Codes(tap, 1, level), level) * (1 << (layer.levels[0] - level));
    std::memcpy(storage + 4 * (tap * layer.outputs + n), &value, 4);
  }
}

}  // namespace

void Relayout(const Layer& layer, const uint8_t* file, uint8_t* storage, int32_t* corrections,
              Executor& executor) {
  const std::vector<int64_t> starts = RowStarts(layer);
  std::memset(storage, 0, static_cast<size_t>(layer.storage_bytes));
  std::memset(corrections, 0, sizeof(int32_t) * static_cast<size_t>(layer.taps * layer.outputs));
  executor.Run((layer.outputs + kBlock - 1) / kBlock, [&](int64_t chunk) {
    const int64_t end = std::min(layer.outputs, (chunk + 1) * kBlock);
    for (int64_t n = chunk * kBlock; n < end; ++n) {
      if (layer.depthwise) {
        RelayoutDepthwise(layer, starts, file, n, storage);
      } else {
        RelayoutOutput(layer, starts, file, n, storage, corrections);
      }
    }
  });
}

}  // namespace hetjax
