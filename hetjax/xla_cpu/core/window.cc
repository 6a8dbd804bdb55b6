#include "window.h"

#include <algorithm>
#include <cstring>

#include "bits.h"

namespace hetjax {

ExpandedWindow::ExpandedWindow(const Layer& layer, const Geometry& geometry,
                               const ConvArguments& arguments, const Window& window,
                               Carver* memory)
    : layer_(layer),
      geometry_(geometry),
      arguments_(arguments),
      image_(window.image),
      y_(geometry, 0, layer.kernel_height, window.row_begin, window.row_end),
      x_(geometry, 1, layer.kernel_width, window.column_begin, window.column_end) {
  if (layer.depthwise) {
    codes_ = memory->Take<uint8_t>(y_.size() * x_.size() * layer.depthwise_lanes());
    whole_.push_back({codes_, layer.depthwise_lanes()});
  }
  for (int64_t g = 0; g < layer.groups && !layer.depthwise; ++g) {
    if (layer.is_matrix()) {
      const MatrixGroup& matrix = layer.matrices[static_cast<size_t>(g)];
      TakePlane(matrix.narrow.channels, memory);
      TakePlane(matrix.wide.channels, memory);
      continue;
    }
    for (size_t l = 0; l < layer.levels.size(); ++l) {
      planes_.push_back(TakePlane(PartBytes(g, l), memory));
    }
  }
  runs_ = memory->Take<Run>(x_.size() + 2);
  scratch_ = memory->Take<uint8_t>(arguments.input->scratch_bytes());
  if (arguments.values != nullptr) {
    row_records_ = memory->Take<uint8_t>(x_.size() * layer.record_bytes + kChannelGroup);
  }
  bytes_ = memory->Take<uint8_t>(kPackedTogether * arguments.input->codes_bytes());
}

uint8_t* ExpandedWindow::TakePlane(int64_t position_bytes, Carver* memory) {
  uint8_t* rows = memory->Take<uint8_t>(y_.size() * x_.size() * position_bytes + kRowSlack);
  whole_.push_back({rows, position_bytes});
  return rows;
}

void ExpandedWindow::Fill(const Kernels& kernels) {
  const int64_t pixel_of_image = image_ * geometry_.height;
  const int64_t num_runs = SetRuns();
  for (int64_t py = 0; py < y_.size(); ++py) {
    const int64_t row = y_.Coordinate(py);
    const int64_t first = py * x_.size();
    if (row < 0 || row >= geometry_.height) {
      Clear(first, x_.size());
      continue;
    }
    const int64_t image_row = (pixel_of_image + row) * geometry_.width;
    // In order: an expanded pixel may be written a little beyond its end.
    for (const Run* run = runs_; run < runs_ + num_runs; ++run) {
      const int64_t position = first + run->position;
      if (run->column < 0) {
        Clear(position, run->count);
      } else if (arguments_.values == nullptr) {
        FillPixels(kernels, arguments_.records + (image_row + run->column) * layer_.record_bytes,
                   run->count, position);
      } else {
        FillValues(kernels, arguments_.values + (image_row + run->column) * layer_.channels,
                   run->count, position);
      }
    }
  }
}

int64_t ExpandedWindow::SetRuns() {
  if (x_.dilation == 1 && x_.step == 1) {
    const int64_t left = std::clamp<int64_t>(-x_.origin, 0, x_.size());
    const int64_t right = std::clamp(geometry_.width - x_.origin, left, x_.size());
    Run* run = runs_;
    if (left > 0) *run++ = {0, left, -1};
    if (right > left) *run++ = {left, right - left, x_.origin + left};
    if (right < x_.size()) *run++ = {right, x_.size() - right, -1};
    return run - runs_;
  }
  int64_t num_runs = 0;
  const auto continues = [&](bool is_inside, int64_t column) {
    if (num_runs == 0) return false;
    const Run& run = runs_[num_runs - 1];
    return is_inside ? run.column >= 0 && run.column + run.count == column : run.column < 0;
  };
  for (int64_t px = 0; px < x_.size(); ++px) {
    const int64_t column = x_.Coordinate(px);
    const bool is_inside = column >= 0 && column < geometry_.width;
    if (!continues(is_inside, column)) runs_[num_runs++] = {px, 0, is_inside ? column : -1};
    ++runs_[num_runs - 1].count;
  }
  return num_runs;
}

void ExpandedWindow::FillValues(const Kernels& kernels, const float* values, int64_t pixels,
                                int64_t position) {
  const Quantizer& quantizer = *arguments_.input;
  const float inv_beta = arguments_.input_inv_beta;
  if (!layer_.depthwise && layer_.groups == 1 && layer_.levels.size() == 1 &&
      layer_.levels[0] == 8) {
    // Neither codes nor units have gaps between pixels: all are one long pixel.
    const int64_t count = pixels * layer_.channels;
    if (layer_.is_matrix()) {
      quantizer.Encode(kernels, values, count, inv_beta, whole_[1].rows + position * layer_.channels);
      return;
    }
    quantizer.Encode(kernels, values, count, inv_beta, row_records_);
    kernels.expand[LevelIndex(8)]({row_records_, 0, 1, count,
                                   planes_[0] + position * PartBytes(0, 0), 0});
    return;
  }
  quantizer.Pack(kernels, values, pixels, inv_beta, scratch_, row_records_);
  FillPixels(kernels, row_records_, pixels, position);
}

void ExpandedWindow::FillPixels(const Kernels& kernels, const uint8_t* records, int64_t pixels,
                                int64_t position) {
  if (layer_.depthwise) {
    FillCodes(kernels, records, pixels, position);
  } else if (layer_.is_matrix()) {
    FillMatrices(kernels, records, pixels, position);
  } else {
    FillParts(kernels, records, pixels, position);
  }
}

void ExpandedWindow::FillCodes(const Kernels& kernels, const uint8_t* records, int64_t pixels,
                               int64_t position) {
  const int64_t lanes = layer_.depthwise_lanes();
  const int64_t each = layer_.outputs_per_group;
  const int64_t codes_bytes = arguments_.input->codes_bytes();
  for (int64_t i = 0; i < pixels; i += kPackedTogether) {
    const int64_t count = std::min<int64_t>(kPackedTogether, pixels - i);
    uint8_t* to = codes_ + (position + i) * lanes;
    // With one output a channel the codes are what Unpack writes.
    uint8_t* codes = each == 1 ? to : bytes_;
    arguments_.input->Unpack(kernels, records + i * layer_.record_bytes, count, scratch_, codes);
    if (each == 1) continue;
    for (int64_t k = 0; k < count; ++k, codes += codes_bytes, to += lanes) {
      for (int64_t n = 0; n < layer_.outputs; ++n) to[n] = codes[n / each];
    }
  }
}

void ExpandedWindow::FillMatrices(const Kernels& kernels, const uint8_t* records, int64_t pixels,
                                  int64_t position) {
  for (size_t g = 0; g < layer_.matrices.size(); ++g) {
    for (const bool is_wide : {false, true}) {
      const MatrixGroup& group = layer_.matrices[g];
      const MatrixPart& part = is_wide ? group.wide : group.narrow;
      kernels.matrix->expand(part.sources.data(), static_cast<int64_t>(part.sources.size()), records,
                             layer_.record_bytes, pixels,
                             whole_[2 * g + is_wide].rows + position * part.channels, part.channels);
    }
  }
}

void ExpandedWindow::FillParts(const Kernels& kernels, const uint8_t* records, int64_t pixels,
                               int64_t position) {
  for (int64_t g = 0; g < layer_.groups; ++g) {
    for (size_t l = 0; l < layer_.levels.size(); ++l) {
      const Part& part = layer_.part(g, l);
      if (part.count == 0) continue;
      const int level = layer_.levels[l];
      const int64_t row_bytes = PartBytes(g, l);
      const size_t at = static_cast<size_t>(g) * layer_.levels.size() + l;
      const auto expand = kernels.expand[LevelIndex(level)];
      Expansion e = {records + layer_.segment[l], layer_.record_bytes, pixels, part.count,
                     planes_[at] + position * row_bytes, row_bytes};
      if (part.first * level % 32 == 0) {
        e.packed += part.first * level / 8;
        expand(e);
        continue;
      }
      // A group's codes need not begin at a word: move them there.
      e.pixels = 1;
      const int64_t bits = part.count * level;
      for (int64_t i = 0; i < pixels; ++i, e.rows += row_bytes) {
        const uint8_t* record = records + i * layer_.record_bytes;
        for (int64_t bit = 0; bit < bits; bit += 32) {
          const uint32_t word = ReadBits(record, layer_.record_bytes,
                                         8 * layer_.segment[l] + part.first * level + bit,
                                         static_cast<int>(std::min<int64_t>(32, bits - bit)));
          std::memcpy(bytes_ + bit / 8, &word, 4);
        }
        e.packed = bytes_;
        expand(e);
      }
    }
  }
}

void ExpandedWindow::Clear(int64_t position, int64_t pixels) {
  for (const Plane& plane : whole_) {
    std::memset(plane.rows + position * plane.position_bytes, 0,
                static_cast<size_t>(pixels * plane.position_bytes));
  }
}

}  // namespace hetjax
