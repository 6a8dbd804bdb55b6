#include "layer.h"

#include "error.h"

namespace hetjax {

RecordLayout::RecordLayout(const int32_t* bits, int64_t channel_count, const int32_t* level_list,
                           int64_t num_levels)
    : channels(channel_count) {
  CheckRange("channels", channels, 1, kMaxExtent);
  CheckRange("number of palette levels", num_levels, 1, 3);
  for (int64_t i = 0; i < num_levels; ++i) {
    const int32_t level = level_list[i];
    if (level != 1 && level != 2 && level != 4 && level != 8) {
      Refuse("palette levels must be among 1, 2, 4, 8, got ", level);
    }
    if (i > 0 && level <= level_list[i - 1]) {
      Refuse("palette levels must increase, got ", level, " after ", level_list[i - 1]);
    }
    levels.insert(levels.begin(), level);
  }
  of.resize(levels.size());
  for (int64_t c = 0; c < channels; ++c) {
    size_t level = 0;
    while (level < levels.size() && levels[level] != bits[c]) ++level;
    if (level == levels.size()) {
      Refuse("bits of channel ", c, " must be a level of the palette, got ", bits[c]);
    }
    of[level].push_back(static_cast<int32_t>(c));
  }
  for (size_t l = 0; l < levels.size(); ++l) {
    segment.push_back(record_bytes);
    record_bytes += (static_cast<int64_t>(of[l].size()) * levels[l] + 31) / 32 * 4;
  }
}

namespace {

// Weights of this many channels times outputs and more do not stay in a second-level cache: reading
// less of them is worth taking them apart.
constexpr int64_t kLargeMatrix = 3 << 20;

// Codes of a row of taps whose quads are listed.
constexpr int64_t kMostMatrixCodes = 1 << 20;

const Format& Choose(const LayerSpec& spec, const Format& given) {
  const bool is_large = spec.kernel_height == 1 && spec.kernel_width == 1 && spec.groups == 1 &&
                        spec.outputs > 0 && spec.channels >= kLargeMatrix / spec.outputs;
  if (is_large && given.dense != nullptr) return *given.dense;
  const bool is_long = spec.kernel_width > kMostMatrixCodes / spec.channels;
  return given.is_matrix && is_long ? VectorFormat() : given;
}

}  // namespace

Layer::Layer(const LayerSpec& spec, const Format& given_format)
    : RecordLayout(spec.bits, spec.channels, spec.levels, spec.num_levels),
      format(Choose(spec, given_format)),
      groups(spec.groups),
      kernel_height(spec.kernel_height),
      kernel_width(spec.kernel_width),
      outputs(spec.outputs) {
  CheckRange("groups", groups, 1, channels);
  CheckRange("kernel height", kernel_height, 1, kMaxExtent);
  CheckRange("kernel width", kernel_width, 1, kMaxExtent);
  CheckRange("output channels", outputs, 1, kMaxExtent);
  if (channels % groups) Refuse("groups must divide ", channels, " channels, got ", groups);
  if (outputs % groups) Refuse("groups must divide ", outputs, " output channels, got ", groups);
  taps = CheckedProduct("kernel", kernel_height, kernel_width);
  CheckRange("kernel taps", taps, 1, kMaxExtent);
  channels_per_group = channels / groups;
  outputs_per_group = outputs / groups;
  blocks_per_group = (outputs_per_group + format.block - 1) / format.block;
  depthwise = channels_per_group == 1;
  narrow_depthwise = depthwise && levels[0] <= 4 && taps <= kNarrowTaps &&
                     format.has_narrow_depthwise;

  parts.resize(static_cast<size_t>(groups) * levels.size());
  for (size_t l = 0; l < levels.size(); ++l) {
    for (const int32_t c : of[l]) {
      parts[static_cast<size_t>(c / channels_per_group) * levels.size() + l].count += 1;
    }
  }
  const int64_t padded_outputs = (blocks_per_group - 1) * format.block + lanes(blocks_per_group - 1);
  std::vector<int64_t> seen(levels.size(), 0);
  for (int64_t g = 0; g < groups; ++g) {
    int64_t bytes = 0;
    if (format.is_matrix && !depthwise) {
      AddMatrix(g);
      bytes = matrices.back().block_bytes / kMatrixBlock;
    }
    for (size_t l = 0; l < levels.size(); ++l) {
      Part& part = parts[static_cast<size_t>(g) * levels.size() + l];
      part.first = seen[l];
      const UnitKind& kind = unit(l);
      if (format.is_matrix) {
        // There are no units.
      } else if (kind.spans_taps) {
        part.position_bytes = part.count * kind.row_bytes / kind.channels;
        part.row_units = (kernel_width * part.count + kind.channels - 1) / kind.channels;
      } else {
        const int64_t units = (part.count + kind.channels - 1) / kind.channels;
        part.position_bytes = units * kind.row_bytes;
        part.row_units = kernel_width * units;
      }
      part.weights = bytes * format.block;
      if (format.is_matrix && !depthwise) {
        MatrixGroup& matrix = matrices.back();
        (levels[l] == 8 ? matrix.wide : matrix.narrow)
            .AddSources(levels[l], part.count, 8 * segment[l] + part.first * levels[l], part.offset);
      }
      seen[l] += part.count;
      bytes += CheckedProduct("kernel units", kernel_height, part.row_units * kind.lane_bytes);
      if (!format.is_matrix) row_bytes += part.position_bytes;
      const int64_t bits = CheckedProduct("weight row", taps, part.count * levels[l]);
      file_bytes += CheckedProduct("weight file", (bits + 7) / 8, outputs_per_group);
    }
    lane_bytes.push_back(bytes);
    group_storage.push_back(storage_bytes);
    if (!depthwise) storage_bytes += CheckedProduct("prepared weights", bytes, padded_outputs);
  }
  if (depthwise) {
    row_bytes = depthwise_lanes();
    const int64_t pair_bytes = narrow_depthwise ? 2 : 4;
    storage_bytes = CheckedProduct("prepared weights", depthwise_pairs(),
                                   pair_bytes * depthwise_lanes());
  }
}

void Layer::AddMatrix(int64_t group) {
  Part* const first = parts.data() + static_cast<size_t>(group) * levels.size();
  std::vector<int64_t> counts;
  for (size_t l = 0; l < levels.size(); ++l) counts.push_back(first[l].count);
  matrices.push_back(PlanMatrix(levels, counts, kernel_height, kernel_width));
  const MatrixGroup& matrix = matrices.back();
  int64_t narrow = 0;
  for (size_t l = 0; l < levels.size(); ++l) {
    const bool is_wide = levels[l] == 8;
    first[l].position_bytes = (is_wide ? matrix.wide : matrix.narrow).channels;
    first[l].offset = is_wide ? 0 : narrow;
    if (!is_wide) narrow += first[l].count;
  }
  row_bytes += matrix.narrow.channels + matrix.wide.channels;
}

}  // namespace hetjax
