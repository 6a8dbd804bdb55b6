#include "taps.h"

#include <algorithm>
#include <cstring>

#include "error.h"

namespace hetjax {

void Geometry::Check() const {
  CheckRange("batch", batch, 0, kMaxExtent);
  const int64_t extent[2] = {height, width};
  for (int axis = 0; axis < 2; ++axis) {
    CheckRange(axis == 0 ? "height" : "width", extent[axis], 0, kMaxExtent);
    CheckRange("stride", stride[axis], 1, kMaxExtent);
    CheckRange("kernel dilation", dilation[axis], 1, kMaxExtent);
    CheckRange("padding", pad_low[axis], 0, kMaxExtent);
    CheckRange("padding", pad_high[axis], 0, kMaxExtent);
  }
}

int64_t Geometry::Output(int axis, int64_t kernel) const {
  const int64_t size = axis == 0 ? height : width;
  const int64_t slack =
      size + pad_low[axis] + pad_high[axis] - (dilation[axis] * (kernel - 1) + 1);
  return slack < 0 ? 0 : slack / stride[axis] + 1;
}

void CheckConv(const Layer& layer, const Geometry& geometry, int64_t records, int64_t storage,
               int64_t corrections, int64_t outputs) {
  geometry.Check();
  const char* image = "image";
  const int64_t area = CheckedProduct(image, geometry.height, geometry.width);
  const int64_t pixels = CheckedProduct(image, geometry.batch, area);
  CheckEqual("bytes of the records", CheckedProduct(image, pixels, layer.record_bytes), records);
  CheckedProduct("expanded rows", pixels, 4 * layer.row_units);
  CheckEqual("bytes of the prepared weights", layer.storage_bytes, storage);
  CheckEqual("corrections", layer.taps * layer.outputs, corrections);
  const char* out = "output";
  const int64_t out_area = CheckedProduct(out, geometry.Output(0, layer.kernel_height),
                                          geometry.Output(1, layer.kernel_width));
  const int64_t out_pixels = CheckedProduct(out, geometry.batch, out_area);
  CheckEqual("outputs", CheckedProduct(out, out_pixels, layer.outputs), outputs);
}

Range ValidTaps(const Geometry& geometry, int axis, int64_t kernel, int64_t at) {
  const int64_t size = axis == 0 ? geometry.height : geometry.width;
  const int64_t origin = at * geometry.stride[axis] - geometry.pad_low[axis];
  const int64_t step = geometry.dilation[axis];
  if (origin >= size) return {0, 0};
  const int64_t begin = origin >= 0 ? 0 : (-origin + step - 1) / step;
  const int64_t end = std::min(kernel, (size - origin + step - 1) / step);
  return begin < end ? Range{begin, end} : Range{0, 0};
}

void ListUnits(const Layer& layer, const Geometry& geometry, const TapRect& rect, int64_t group,
               size_t level, UnitList* list) {
  list->weight.clear();
  list->row.clear();
  const size_t g = static_cast<size_t>(group);
  const Part& part = layer.part(group, level);
  ForEachTap(rect, [&](int64_t i, int64_t j) {
    const int64_t tap = i * layer.kernel_width + j;
    const int64_t weight = tap * layer.group_units[g] + part.offset;
    const int64_t row =
        TapOffset(geometry, i, j) * layer.row_units + layer.group_offset[g] + part.offset;
    for (int64_t k = 0; k < part.units; ++k) {
      list->weight.push_back(static_cast<int32_t>(weight + k));
      list->row.push_back(row + k);
    }
  });
}

std::vector<Window> SplitOutput(int64_t rows, int64_t columns, int64_t blocks, int64_t threads) {
  constexpr int64_t kTasksPerThread = 4;
  constexpr int64_t kMinPixels = 4 * kTile;
  const int64_t wanted =
      threads == 1 ? 1 : (kTasksPerThread * threads + blocks - 1) / blocks;
  const int64_t pixels = std::max((rows * columns + wanted - 1) / wanted, kMinPixels);
  const int64_t rows_each = std::max<int64_t>(1, std::min(rows, pixels / columns));
  // Rows longer than a task's pixels are cut, at whole tiles.
  const int64_t columns_each =
      std::min(columns, rows_each > 1 ? columns : (pixels + kTile - 1) / kTile * kTile);
  std::vector<Window> windows;
  for (int64_t y = 0; y < rows; y += rows_each) {
    for (int64_t x = 0; x < columns; x += columns_each) {
      windows.push_back({y, std::min(rows, y + rows_each), x, std::min(columns, x + columns_each)});
    }
  }
  return windows;
}

void WriteOutputs(const ConvArguments& arguments, const Kernels& kernels, const uint32_t* sums,
                  int64_t first_output, int32_t outputs, int64_t out_offset) {
  const int64_t at = out_offset + first_output;
  if (arguments.scale == nullptr) {
    std::memcpy(static_cast<int32_t*>(arguments.out) + at, sums,
                sizeof(uint32_t) * static_cast<size_t>(outputs));
    return;
  }
  kernels.epilogue(sums, arguments.scale + first_output, arguments.bias + first_output, outputs,
                   static_cast<float*>(arguments.out) + at);
}

void DepthwiseWindow(const Layer& layer, const Geometry& geometry, const ConvArguments& arguments,
                     const Rows& rows, const Kernels& kernels, const Window& window) {
  const int64_t out_height = geometry.Output(0, layer.kernel_height);
  const int64_t out_width = geometry.Output(1, layer.kernel_width);
  std::vector<int64_t> row_offsets, weight_offsets;
  for (int64_t row = window.row_begin; row < window.row_end; ++row) {
    const int64_t image = row / out_height, y = row % out_height;
    const Range tap_rows = ValidTaps(geometry, 0, layer.kernel_height, y);
    for (int64_t x = window.column_begin; x < window.column_end; ++x) {
      const TapRect rect = {tap_rows, ValidTaps(geometry, 1, layer.kernel_width, x)};
      const int64_t origin = InputOrigin(geometry, image, y, x);
      row_offsets.clear();
      weight_offsets.clear();
      ForEachTap(rect, [&](int64_t i, int64_t j) {
        row_offsets.push_back((origin + TapOffset(geometry, i, j)) * layer.outputs);
        weight_offsets.push_back((i * layer.kernel_width + j) * layer.outputs);
      });
      for (int64_t n = 0; n < layer.outputs; n += kBlock) {
        uint32_t sums[kBlock] = {};
        DepthwiseTile tile = {};
        tile.rows = reinterpret_cast<const int32_t*>(rows.units.get()) + n;
        tile.row_offsets = row_offsets.data();
        tile.weights = arguments.weights + 4 * n;
        tile.weight_offsets = weight_offsets.data();
        tile.taps = static_cast<int64_t>(row_offsets.size());
        tile.outputs = static_cast<int32_t>(std::min<int64_t>(kBlock, layer.outputs - n));
        tile.sums = sums;
        kernels.depthwise(tile);
        WriteOutputs(arguments, kernels, sums, n, tile.outputs,
                     (row * out_width + x) * layer.outputs);
      }
    }
  }
}

}  // namespace hetjax
