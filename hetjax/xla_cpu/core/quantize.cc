#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "ops.h"
#include "rounding.h"
#include "scratch.h"

namespace hetjax {
namespace {

constexpr int64_t kElementsPerTask = 16384;

}  // namespace

Quantizer::Quantizer(RecordLayout layout, bool is_signed)
    : layout_(std::move(layout)), is_signed_(is_signed), channels_{} {
  const size_t padded = static_cast<size_t>(RoundUp(layout_.channels, kChannelGroup));
  for (const auto& channels : layout_.of) {
    if (static_cast<int64_t>(channels.size()) == layout_.channels) channels_.is_uniform = true;
  }
  // A block of outputs that are a group's may begin anywhere, and all its lanes are read.
  steps_.resize(padded + kMatrixBlock);
  caps_.resize(padded + kMatrixBlock);
  half_.resize(padded + kMatrixBlock);
  top_.resize(padded + kMatrixBlock);
  channels_.count = layout_.channels;
  channels_.levels = static_cast<int32_t>(layout_.levels.size());
  for (size_t l = 0; l < layout_.levels.size(); ++l) {
    const int level = layout_.levels[l];
    shuffles_[l].assign(padded, 0x80);
    restores_[l].assign(padded, 0x80);
    taken_[l].assign(padded / kCompactGroup, 0);
    for (const int32_t c : layout_.of[l]) {
      const size_t at = static_cast<size_t>(c), group = at / kCompactGroup;
      half_[at] = 1 << (level - 1);
      top_[at] = (1 << level) - 1;
      steps_[at] = static_cast<float>(half_[at]) * (is_signed ? 0.5f : 1.0f);
      const int32_t most = is_signed ? top_[at] - half_[at] : 2 * top_[at];
      caps_[at] = static_cast<float>(most) + 0.5f;
      restores_[l][at] = taken_[l][group];
      shuffles_[l][kCompactGroup * group + taken_[l][group]++] =
          static_cast<uint8_t>(at % kCompactGroup);
    }
    for (size_t at = padded; channels_.is_uniform && !layout_.of[l].empty() && at-- > 0;) {
      half_[at] = half_[0];
      top_[at] = top_[0];
      steps_[at] = steps_[0];
      caps_[at] = caps_[0];
    }
    channels_.level[l] = level;
    channels_.count_of[l] = static_cast<int64_t>(layout_.of[l].size());
    channels_.segment[l] = layout_.segment[l];
    channels_.of[l] = layout_.of[l].data();
    channels_.shuffle[l] = shuffles_[l].data();
    channels_.taken[l] = taken_[l].data();
    channels_.restore[l] = restores_[l].data();
    SetGather(l);
  }
  SetWords();
  SetSources();
  channels_.steps = steps_.data();
  channels_.caps = caps_.data();
  channels_.half = half_.data();
  channels_.top = top_.data();
}

void Quantizer::SetGather(size_t level) {
  const std::vector<int32_t>& of = layout_.of[level];
  const int64_t count = static_cast<int64_t>(of.size());
  const int64_t per_word = 32 / layout_.levels[level];
  for (int64_t slot = 0; slot < RoundUp(count, per_word); slot += 16) {
    const int64_t end = std::min(count, slot + 16);
    GatherSpan span = {0, 0};
    if (slot < end) {
      span.first = of[static_cast<size_t>(slot)] / kCompactGroup;
      span.count = of[static_cast<size_t>(end - 1)] / kCompactGroup + 1 - span.first;
    }
    const size_t base = gathers_[level].size();
    gathers_[level].resize(base + 16 * static_cast<size_t>(span.count), 0x80);
    for (int64_t i = slot; i < end; ++i) {
      const int32_t c = of[static_cast<size_t>(i)];
      const int64_t at = 16 * (c / kCompactGroup - span.first) + i - slot;
      gathers_[level][base + static_cast<size_t>(at)] = static_cast<uint8_t>(c % kCompactGroup);
    }
    spans_[level].push_back(span);
  }
  channels_.spans[level] = spans_[level].data();
  channels_.gather[level] = gathers_[level].data();
}

void Quantizer::SetWords() {
  constexpr int64_t kBits = 64, kGroup = 64;
  struct Place {
    int32_t channel = -1;
    int bit = 0;
  };
  std::vector<Place> places(static_cast<size_t>(RoundUp(8 * layout_.record_bytes, kBits)));
  for (size_t l = 0; l < layout_.levels.size(); ++l) {
    auto place = places.begin() + 8 * layout_.segment[l];
    for (const int32_t c : layout_.of[l]) {
      for (int bit = 0; bit < layout_.levels[l]; ++bit) *place++ = {c, bit};
    }
  }
  for (size_t begin = 0; begin < places.size(); begin += kBits) {
    int32_t first = std::numeric_limits<int32_t>::max(), last = -1;
    RecordWord word = {};
    for (size_t i = 0; i < kBits; ++i) {
      const Place& place = places[begin + i];
      if (place.channel < 0) continue;
      word.bit[i] = static_cast<uint8_t>(1 << place.bit);
      first = std::min(first, static_cast<int32_t>(place.channel / kGroup));
      last = std::max(last, static_cast<int32_t>(place.channel / kGroup));
    }
    // Every word of a record holds a code, but not its second half.
    word.first = first;
    word.count = last + 1 - first;
    const size_t base = word_gathers_.size();
    word_gathers_.resize(base + static_cast<size_t>(word.count));
    for (size_t i = 0; i < kBits; ++i) {
      const int32_t c = places[begin + i].channel;
      if (c < 0) continue;
      WordGather& gather = word_gathers_[base + static_cast<size_t>(c / kGroup - first)];
      gather.mask |= uint64_t{1} << i;
      gather.from[i] = static_cast<uint8_t>(c % kGroup);
    }
    words_.push_back(word);
  }
  channels_.words = words_.data();
  channels_.gathers = word_gathers_.data();
}

void Quantizer::SetSources() {
  constexpr int64_t kGroup = 64;
  for (int64_t first = 0; first < layout_.channels; first += kGroup) {
    const size_t begin = sources_.size();
    for (size_t l = 0; l < layout_.levels.size(); ++l) {
      const std::vector<int32_t>& of = layout_.of[l];
      const int level = layout_.levels[l];
      const auto low = std::lower_bound(of.begin(), of.end(), first);
      const auto high = std::lower_bound(low, of.end(), first + kGroup);
      if (low == high) continue;
      int64_t bit = 8 * layout_.segment[l] + (low - of.begin()) * level;
      CodeSource source = {};
      source.record = bit / 8;
      source.position = first;
      for (auto c = low; c != high; ++c, bit += level) {
        const int64_t at = *c - first, from = bit / 8 - source.record;
        AddCode(at, from, bit % 8, level, &source);
      }
      sources_.push_back(source);
    }
    const int64_t end = std::min(kGroup, RoundUp(layout_.channels, kChannelGroup) - first);
    for (int64_t at = layout_.channels - first; at < end; ++at) {
      sources_[begin].writes |= uint64_t{1} << at;
    }
  }
  channels_.sources = sources_.data();
  channels_.num_sources = static_cast<int64_t>(sources_.size());
}

void Quantizer::Pack(const Kernels& kernels, const float* values, int64_t positions, float inv_beta,
                     uint8_t* scratch, uint8_t* records) const {
  const int64_t padded = RoundUp(layout_.channels, kChannelGroup);
  const int64_t codes_bytes = channels_.is_uniform ? layout_.channels : padded;
  uint8_t* sorted = scratch + kPackedTogether * padded + 64;
  for (int64_t i = 0; i < positions; i += kPackedTogether) {
    const int64_t count = std::min<int64_t>(kPackedTogether, positions - i);
    const float* from = values + i * layout_.channels;
    if (channels_.is_uniform) {
      kernels.encode(channels_, from, count * layout_.channels, inv_beta, is_signed_, scratch);
      // Packing reads beyond the last code, and needs codes there.
      std::memset(scratch + RoundUp(count * layout_.channels, kChannelGroup), 0, 64);
    } else {
      for (int64_t k = 0; k < count; ++k) {
        kernels.encode(channels_, from + k * layout_.channels, layout_.channels, inv_beta,
                       is_signed_, scratch + k * codes_bytes);
      }
    }
    kernels.pack(channels_, scratch, count, codes_bytes, sorted,
                 records + i * layout_.record_bytes, layout_.record_bytes);
  }
}

void Quantizer::Unpack(const Kernels& kernels, const uint8_t* records, int64_t positions,
                       uint8_t* scratch, uint8_t* codes) const {
  kernels.unpack(channels_, records, positions, layout_.record_bytes, scratch, codes,
                 codes_bytes());
}

MatrixCodes CodesOf(const Consumer& consumer, uint8_t* codes) {
  const Quantizer& quantizer = *consumer.quantizer;
  // The limit of IsFlushFree (encode_avx2.inc).
  const bool is_plain =
      !quantizer.is_signed() && consumer.inv_beta > 0.0f && consumer.inv_beta < 0x1p100f;
  return {&quantizer.channels(),    quantizer.is_signed(),
          is_plain,                 consumer.inv_beta,
          codes,                    quantizer.codes_bytes(),
          consumer.records,         quantizer.layout().record_bytes};
}

void QuantizePack(const Quantizer& quantizer, const float* x, int64_t positions, float inv_beta,
                  uint8_t* records, const Kernels& kernels, Executor& executor) {
  const RecordLayout& layout = quantizer.layout();
  const int64_t per_task = std::max<int64_t>(1, kElementsPerTask / layout.channels);
  executor.Run((positions + per_task - 1) / per_task, [&](int64_t task) {
    const ExactFloats exact;
    uint8_t* scratch = TaskScratch(quantizer.scratch_bytes());
    const int64_t end = std::min(positions, (task + 1) * per_task);
    const int64_t first = task * per_task;
    quantizer.Pack(kernels, x + first * layout.channels, end - first, inv_beta, scratch,
                   records + first * layout.record_bytes);
  });
}

}  // namespace hetjax
