#include <algorithm>
#include <cstring>
#include <vector>

#include "ops.h"

namespace hetjax {
namespace {

constexpr int64_t kElementsPerTask = 16384;

// Owns the arrays of a `Channels`.
class ChannelTable {
 public:
  ChannelTable(const RecordLayout& layout, bool is_signed) : count_(layout.channels) {
    const size_t padded =
        static_cast<size_t>((count_ + kChannelGroup - 1) / kChannelGroup * kChannelGroup);
    steps_.resize(padded);
    half_.resize(padded);
    top_.resize(padded);
    for (size_t l = 0; l < layout.levels.size(); ++l) {
      const int level = layout.levels[l];
      for (const int32_t c : layout.of[l]) {
        const size_t at = static_cast<size_t>(c);
        half_[at] = 1 << (level - 1);
        top_[at] = (1 << level) - 1;
        steps_[at] = static_cast<float>(half_[at]) * (is_signed ? 0.5f : 1.0f);
      }
    }
  }

  Channels View() const { return {count_, steps_.data(), half_.data(), top_.data()}; }
  size_t padded() const { return steps_.size(); }

 private:
  int64_t count_;
  std::vector<float> steps_;
  std::vector<int32_t> half_, top_;
};

// Codes of the given channels to a segment of whole words.
template <int kLevel>
void PackSegment(const uint8_t* codes, const std::vector<int32_t>& channels, uint8_t* out) {
  constexpr size_t kPerWord = 32 / kLevel;
  const int32_t* from = channels.data();
  size_t left = channels.size();
  for (; left >= kPerWord; left -= kPerWord, from += kPerWord, out += 4) {
    uint32_t word = 0;
    for (size_t k = 0; k < kPerWord; ++k) word |= uint32_t{codes[from[k]]} << kLevel * k;
    std::memcpy(out, &word, 4);
  }
  if (left == 0) return;
  uint32_t word = 0;
  for (size_t k = 0; k < left; ++k) word |= uint32_t{codes[from[k]]} << kLevel * k;
  std::memcpy(out, &word, 4);
}

void PackLevel(const uint8_t* codes, const std::vector<int32_t>& channels, int level,
               uint8_t* out) {
  switch (level) {
    case 1: return PackSegment<1>(codes, channels, out);
    case 2: return PackSegment<2>(codes, channels, out);
    case 4: return PackSegment<4>(codes, channels, out);
    default: return PackSegment<8>(codes, channels, out);
  }
}

}  // namespace

void QuantizePack(const RecordLayout& layout, const float* x, int64_t positions, float inv_beta,
                  bool is_signed, uint8_t* records, const Kernels& kernels, Executor& executor) {
  const ChannelTable table(layout, is_signed);
  const Channels channels = table.View();
  const int64_t per_task = std::max<int64_t>(1, kElementsPerTask / layout.channels);
  executor.Run((positions + per_task - 1) / per_task, [&](int64_t task) {
    const ExactFloats exact;
    std::vector<uint8_t> codes(table.padded());
    const int64_t end = std::min(positions, (task + 1) * per_task);
    for (int64_t i = task * per_task; i < end; ++i) {
      kernels.encode(channels, x + i * layout.channels, inv_beta, is_signed, codes.data());
      uint8_t* record = records + i * layout.record_bytes;
      for (size_t l = 0; l < layout.levels.size(); ++l) {
        PackLevel(codes.data(), layout.of[l], layout.levels[l], record + layout.segment[l]);
      }
    }
  });
}

}  // namespace hetjax
