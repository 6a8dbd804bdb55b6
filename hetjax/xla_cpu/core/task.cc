#include "task.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace hetjax {
namespace {

void SetFactors(const Call& call, Tile* tile) {
  const Layer& layer = call.layer;
  const bool is_signed = call.arguments.is_signed;
  // A 1-bit product counts four times a 2-bit one, unless one bit is all there is.
  tile->table_shift = layer.levels[0] == 1 ? 0 : 2;
  tile->table_factor = Factor(layer, layer.levels[0] == 1 ? 1 : 2, is_signed);
  tile->dot_factor = layer.levels[0] < 4 ? 0 : Factor(layer, 4, is_signed);
  tile->wide_factor = is_signed ? 2 : 1;
}

}  // namespace

void Task::RunBlock(int64_t block) {
  const Layer& layer = call_.layer;
  const ConvArguments& a = call_.arguments;
  group_ = block / layer.blocks_per_group;
  within_ = block % layer.blocks_per_group;
  const int64_t size = layer.format.block;
  outputs_ = std::min(size, layer.outputs_per_group - within_ * size);
  first_ = group_ * layer.outputs_per_group + within_ * size;
  tile_ = {};
  tile_.lanes = static_cast<int32_t>(layer.lanes(within_));
  tile_.is_dense = layer.format.is_dense;
  SetFactors(call_, &tile_);
  SetParts();
  if (a.scale != nullptr) {
    std::memset(scale_, 0, sizeof(scale_));
    std::memset(bias_, 0, sizeof(bias_));
    std::memcpy(scale_, a.scale + first_, 4 * static_cast<size_t>(outputs_));
    std::memcpy(bias_, a.bias + first_, 4 * static_cast<size_t>(outputs_));
    tile_.scale = scale_;
    tile_.bias = bias_;
    tile_.activation = a.activation;
  }
  const int full = FullTile(call_.kernels, tile_.lanes);
  int32_t row_class = -1;
  for (int64_t y = window_.row_begin; y < window_.row_end; ++y) {
    const int32_t next = call_.rows.of[static_cast<size_t>(y)];
    if (next != row_class && tile_.pixels > 0) Flush(row_class);
    row_class = next;
    const int32_t* column_class = call_.columns.of.data();
    const int64_t row = (window_.image * call_.height + y) * call_.width;
    const int64_t out_row = values_ == nullptr ? row : OwnRow(y);
    for (int64_t x = window_.column_begin; x < window_.column_end; ++x) {
      const int i = tile_.pixels;
      column_class_[i] = column_class[x];
      pixel_[i] = row + x;
      out_pixel_[i] = out_row + x;
      position_[i] = input_->Position(y - window_.row_begin, x - window_.column_begin);
      tile_.pixels = i + 1;
      if (tile_.pixels == full) Flush(row_class);
    }
  }
  if (tile_.pixels > 0) Flush(row_class);
}

// What follows from the block alone.
void Task::SetParts() {
  const Layer& layer = call_.layer;
  num_parts_ = 0;
  for (size_t l = 0; l < layer.levels.size(); ++l) {
    const Part& part = layer.part(group_, l);
    if (part.count == 0) continue;
    PartOfBlock& p = parts_[num_parts_++];
    p.segment = &tile_.segment[LevelIndex(layer.levels[l])];
    p.plane = input_->Rows(group_, l);
    p.position_bytes = input_->PartBytes(group_, l);
    p.weights = call_.arguments.weights + layer.part_storage(group_, within_, l);
    p.segment->units = static_cast<int32_t>(part.row_units);
    p.row_weights = part.row_units * layer.unit(l).lane_bytes * tile_.lanes;
    p.segment->run_bytes = input_->x().size() * p.position_bytes;
  }
  row_class_ = -1;
}

// What follows from the valid rows of taps.
void Task::SetTaps(int32_t row_class) {
  const Range taps = call_.rows.taps[static_cast<size_t>(row_class)];
  for (int k = 0; k < num_parts_; ++k) {
    PartOfBlock& part = parts_[k];
    part.segment->runs = static_cast<int32_t>(taps.end - taps.begin);
    part.segment->weights = part.weights + taps.begin * part.row_weights;
    part.first_row = part.plane + taps.begin * part.segment->run_bytes;
  }
  row_class_ = row_class;
}

void Task::Flush(int32_t row_class) {
  const Layer& layer = call_.layer;
  if (row_class != row_class_) SetTaps(row_class);
  for (int k = 0; k < num_parts_; ++k) {
    const PartOfBlock& part = parts_[k];
    for (int i = 0; i < tile_.pixels; ++i) {
      part.segment->rows[i] = part.first_row + position_[i] * part.position_bytes;
    }
  }
  const bool ragged = outputs_ < tile_.lanes;
  alignas(64) uint32_t out[kMaxTile][kWideBlock];
  alignas(64) float residual[kMaxTile][kWideBlock];
  const uint32_t* constants = call_.constants.Of(row_class, 0) +
                              call_.constants.Lane(group_, within_);
  const int64_t constants_step = call_.constants.size();
  for (int i = 0; i < tile_.pixels; ++i) {
    tile_.constants[i] = constants + column_class_[i] * constants_step;
    tile_.out[i] = ragged ? static_cast<void*>(out[i])
                          : out_ + 4 * (out_pixel_[i] * layer.outputs + first_);
    if (call_.arguments.residual == nullptr) continue;
    tile_.residual[i] = call_.arguments.residual + pixel_[i] * layer.outputs + first_;
    if (ragged) {
      std::memset(residual[i], 0, sizeof(residual[i]));
      std::memcpy(residual[i], tile_.residual[i], 4 * static_cast<size_t>(outputs_));
      tile_.residual[i] = residual[i];
    }
  }
  call_.kernels.run(tile_);
  if (ragged) {
    for (int i = 0; i < tile_.pixels; ++i) {
      std::memcpy(out_ + 4 * (out_pixel_[i] * layer.outputs + first_), out[i],
                  4 * static_cast<size_t>(outputs_));
    }
  }
  tile_.pixels = 0;
}

// Pixels side by side that have constants in common, at a time.
void Task::RunDepthwiseCodes(DepthwiseTile tile, const ExpandedWindow& input, int64_t y,
                             const MatrixCodes& codes) {
  const int64_t row = (window_.image * call_.height + y) * call_.width;
  const int32_t* const column_class = call_.columns.of.data();
  const auto position = [&](int64_t x) {
    return input.Position(y - window_.row_begin, x - window_.column_begin);
  };
  int64_t end = 0;
  for (int64_t x = window_.column_begin; x < window_.column_end; x = end) {
    const int64_t step = position(x + 1) - position(x);
    for (end = x + 1; end < window_.column_end; ++end) {
      if (column_class[end] != column_class[x] || position(end) - position(end - 1) != step) break;
    }
    tile.rows = input.Codes(position(x));
    tile.constants = call_.constants.Of(call_.rows.of[static_cast<size_t>(y)], column_class[x]);
    if (call_.arguments.residual != nullptr) {
      tile.residual = call_.arguments.residual + (row + x) * call_.layer.outputs;
    }
    call_.kernels.depthwise_codes(tile, end - x, step * call_.layer.depthwise_lanes(), codes,
                                  codes.codes + (x - window_.column_begin) * codes.pixel_bytes);
  }
}

void Task::RunDepthwise(const ExpandedWindow& input, const MatrixCodes* codes,
                        const std::function<void(int64_t y)>& then) {
  const Layer& layer = call_.layer;
  const ConvArguments& a = call_.arguments;
  // Codes outside the image are zero and add nothing, so that all outputs have all taps.
  std::vector<int64_t> row_offsets;
  for (int64_t i = 0; i < layer.kernel_height; ++i) {
    for (int64_t j = 0; j < layer.kernel_width; ++j) {
      row_offsets.push_back((i * input.x().size() + j) * layer.depthwise_lanes());
    }
  }
  if (layer.taps % 2 != 0) row_offsets.push_back(row_offsets.back());
  DepthwiseTile tile = {};
  tile.row_offsets = row_offsets.data();
  if (layer.narrow_depthwise) {
    tile.narrow = reinterpret_cast<const int8_t*>(a.weights);
    tile.narrow_multiplier = a.is_signed ? 2 : 1;
  } else {
    tile.weights = reinterpret_cast<const int16_t*>(a.weights);
  }
  tile.pairs = layer.depthwise_pairs();
  tile.outputs = layer.outputs;
  tile.multiplier = call_.multiplier;
  tile.scale = a.scale;
  tile.bias = a.bias;
  tile.activation = a.activation;
  for (int64_t y = window_.row_begin; y < window_.row_end; ++y) {
    if (codes != nullptr) {
      RunDepthwiseCodes(tile, input, y, *codes);
      then(y);
      continue;
    }
    const int32_t row_class = call_.rows.of[static_cast<size_t>(y)];
    const int64_t row = (window_.image * call_.height + y) * call_.width;
    const int64_t out_row = values_ == nullptr ? row : -window_.column_begin;
    for (int64_t x = window_.column_begin; x < window_.column_end; ++x) {
      tile.rows = input.Codes(input.Position(y - window_.row_begin, x - window_.column_begin));
      tile.constants = call_.constants.Of(row_class, call_.columns.of[static_cast<size_t>(x)]);
      tile.residual = a.residual == nullptr ? nullptr : a.residual + (row + x) * layer.outputs;
      tile.out = out_ + 4 * (out_row + x) * layer.outputs;
      call_.kernels.depthwise(tile);
    }
    then(y);
  }
}

}  // namespace hetjax
