#include "matrix.h"

#include "error.h"
#include "rounding.h"

namespace hetjax {
namespace {

// Quads of taps * channels codes in a row, whose levels repeat from tap to tap.
std::vector<QuadRun> Quads(const std::vector<int32_t>& level_of, int64_t taps) {
  std::vector<QuadRun> runs;
  const int64_t channels = static_cast<int64_t>(level_of.size());
  for (int64_t first = 0; first < taps * channels; first += kQuad) {
    int32_t level = first + kQuad <= taps * channels
                        ? level_of[static_cast<size_t>(first % channels)]
                        : 8;
    for (int64_t i = first; level != 8 && i < first + kQuad; ++i) {
      if (level_of[static_cast<size_t>(i % channels)] != level) level = 8;
    }
    if (runs.empty() || runs.back().level != level) runs.push_back({level, 0});
    ++runs.back().quads;
  }
  return runs;
}

}  // namespace

void AddCode(int64_t at, int64_t from, int64_t bit, int level, CodeSource* source) {
  source->reads |= uint64_t{1} << from;
  source->writes |= uint64_t{1} << at;
  source->byte[at] = static_cast<uint8_t>(from);
  source->shift[at] = static_cast<uint8_t>(8 * (at % 8) + bit);
  source->mask[at] = static_cast<uint8_t>((1 << level) - 1);
}

void MatrixPart::AddSources(int32_t level, int64_t count, int64_t first_bit, int64_t position) {
  for (int64_t i = 0; i < count; ++i, ++position) {
    const int64_t bit = first_bit + i * level, byte = bit / 8;
    if (sources.empty() || position - sources.back().position >= 64 ||
        byte - sources.back().record >= 64) {
      sources.push_back({});
      sources.back().record = byte;
      sources.back().position = position;
    }
    CodeSource& to = sources.back();
    AddCode(position - to.position, byte - to.record, bit % 8, level, &to);
  }
}

MatrixGroup PlanMatrix(const std::vector<int32_t>& levels, const std::vector<int64_t>& counts,
                       int64_t kernel_height, int64_t kernel_width) {
  MatrixGroup group;
  std::vector<int32_t> narrow;
  for (size_t l = 0; l < levels.size(); ++l) {
    if (levels[l] == 8) {
      group.wide.channels = counts[l];
      continue;
    }
    if (group.top == 0) group.top = levels[l];
    narrow.insert(narrow.end(), static_cast<size_t>(counts[l]), levels[l]);
  }
  group.narrow.channels = static_cast<int64_t>(narrow.size());
  for (MatrixPart* part : {&group.wide, &group.narrow}) {
    const int64_t codes = CheckedProduct("kernel row", kernel_width, part->channels);
    part->steps = CeilDiv(codes, kStepCodes);
    if (part == &group.wide) {
      part->row_bytes = CheckedProduct("weight row", part->steps, kStepBytes);
    } else if (codes > 0) {
      part->quads = Quads(narrow, kernel_width);
      for (const QuadRun& run : part->quads) {
        part->row_bytes += int64_t{run.level} * run.quads * kStepCodes / 8 * 2;
      }
    }
    part->weights = group.block_bytes;
    group.block_bytes +=
        RoundUp(CheckedProduct("block weights", kernel_height, part->row_bytes), kStepCodes);
  }
  return group;
}

}  // namespace hetjax
