#include <algorithm>
#include <cstring>
#include <vector>

#include "ops.h"

namespace hetjax {
namespace {

constexpr int64_t kElementsPerTask = 16384;

// Eight codes (bytes of `codes`) as `level` bytes, least significant bits first.
uint64_t PackEight(uint64_t codes, int level) {
  switch (level) {
    case 1:
      // Bit 7 of every byte of the product's window collects one code; no carries meet.
      return (codes * 0x0102040810204080u) >> 56;
    case 2:
      codes = (codes | codes >> 6) & 0x000f000f000f000fu;
      codes = (codes | codes >> 12) & 0x000000ff000000ffu;
      return (codes | codes >> 24) & 0xffffu;
    case 4:
      codes = (codes | codes >> 4) & 0x00ff00ff00ff00ffu;
      codes = (codes | codes >> 8) & 0x0000ffff0000ffffu;
      return (codes | codes >> 16) & 0xffffffffu;
    default:
      return codes;
  }
}

}  // namespace

void QuantizePack(const RecordLayout& layout, const float* x, int64_t positions, float inv_beta,
                  bool is_signed, uint8_t* records, const Kernels& kernels, Executor& executor) {
  const int64_t per_task = std::max<int64_t>(1, kElementsPerTask / layout.channels);
  executor.Run((positions + per_task - 1) / per_task, [&](int64_t task) {
    const ExactFloats exact;
    // A segment's codes are padded with zeros to whole words of the record.
    const size_t padded = static_cast<size_t>(layout.channels) + 32;
    std::vector<float> values(padded);
    std::vector<uint8_t> codes(padded);
    const int64_t end = std::min(positions, (task + 1) * per_task);
    for (int64_t i = task * per_task; i < end; ++i) {
      const float* source = x + i * layout.channels;
      uint8_t* record = records + i * layout.record_bytes;
      for (size_t l = 0; l < layout.levels.size(); ++l) {
        const std::vector<int32_t>& channels = layout.of[l];
        const size_t count = channels.size();
        const int level = layout.levels[l];
        if (count == 0) continue;
        const float* gathered = source + channels[0];
        if (channels[0] + static_cast<int64_t>(count) != channels[count - 1] + int64_t{1}) {
          for (size_t k = 0; k < count; ++k) values[k] = source[channels[k]];
          gathered = values.data();
        }
        kernels.encode(gathered, static_cast<int64_t>(count), inv_beta, level, is_signed,
                       codes.data());
        const size_t per_word = static_cast<size_t>(32 / level);
        const size_t whole = (count + per_word - 1) / per_word * per_word;
        std::memset(codes.data() + count, 0, whole - count);
        uint8_t* out = record + layout.segment[l];
        size_t k = 0;
        // Words of 8-bit codes hold four; the other levels' words hold whole eights.
        for (; k + 8 <= whole; k += 8, out += level) {
          uint64_t eight;
          std::memcpy(&eight, codes.data() + k, 8);
          const uint64_t bytes = PackEight(eight, level);
          std::memcpy(out, &bytes, static_cast<size_t>(level));
        }
        if (k < whole) std::memcpy(out, codes.data() + k, whole - k);
      }
    }
  });
}

}  // namespace hetjax
