#include "taps.h"

#include <algorithm>

#include "error.h"
#include "rounding.h"

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

int64_t CheckedOutputs(const Layer& layer, const Geometry& geometry) {
  geometry.Check();
  const char* image = "image";
  const int64_t area = CheckedProduct(image, geometry.height, geometry.width);
  const int64_t pixels = CheckedProduct(image, geometry.batch, area);
  CheckedProduct("values", pixels, 4 * layer.channels);
  CheckedProduct("expanded rows", pixels, layer.row_bytes);
  const char* out = "output";
  const int64_t out_area = CheckedProduct(out, geometry.Output(0, layer.kernel_height),
                                          geometry.Output(1, layer.kernel_width));
  const int64_t out_pixels = CheckedProduct(out, geometry.batch, out_area);
  if (out_pixels == 0) return 0;
  // Strides and dilations can make a large image of a small one with much padding.
  const char* padded = "padded image";
  const AxisPlan y(geometry, 0, layer.kernel_height, 0, geometry.Output(0, layer.kernel_height));
  const AxisPlan x(geometry, 1, layer.kernel_width, 0, geometry.Output(1, layer.kernel_width));
  CheckedProduct(padded, CheckedProduct(padded, y.size(), x.size()), layer.row_bytes + 1);
  return CheckedProduct(out, out_pixels, layer.outputs);
}

void CheckConv(const Layer& layer, const Geometry& geometry, int64_t storage, int64_t corrections,
               int64_t outputs) {
  CheckEqual("outputs", CheckedOutputs(layer, geometry), outputs);
  CheckEqual("bytes of the prepared weights", layer.storage_bytes, storage);
  CheckEqual("corrections", kCorrections * layer.taps * layer.outputs, corrections);
}

Geometry Flattened(const Layer& layer, const Geometry& g) {
  if (layer.taps != 1 || g.stride[0] != 1 || g.stride[1] != 1 || g.pad_low[0] || g.pad_low[1] ||
      g.pad_high[0] || g.pad_high[1]) {
    return g;
  }
  Geometry flat = g;
  flat.width = g.batch * g.height * g.width;
  flat.batch = flat.height = 1;
  return flat;
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

TapClasses::TapClasses(const Geometry& geometry, int axis, int64_t kernel) {
  const int64_t positions = geometry.Output(axis, kernel);
  of.reserve(static_cast<size_t>(positions));
  const int64_t size = axis == 0 ? geometry.height : geometry.width;
  const int64_t room = size - 1 - (kernel - 1) * geometry.dilation[axis] + geometry.pad_low[axis];
  for (int64_t at = 0; at < positions; ++at) {
    // From the first position with all taps on to the last one they agree.
    if (at * geometry.stride[axis] >= geometry.pad_low[axis] && !of.empty() &&
        taps[static_cast<size_t>(of.back())] == Range{0, kernel}) {
      const int64_t end = std::min(positions, room / geometry.stride[axis] + 1);
      of.resize(static_cast<size_t>(std::max(at, end)), of.back());
      at = static_cast<int64_t>(of.size());
      if (at == positions) break;
    }
    const Range valid = ValidTaps(geometry, axis, kernel, at);
    // Neighbours mostly agree; classes are few otherwise.
    size_t c = of.empty() ? taps.size() : static_cast<size_t>(of.back());
    if (c == taps.size() || !(taps[c] == valid)) {
      c = static_cast<size_t>(std::find(taps.begin(), taps.end(), valid) - taps.begin());
      if (c == taps.size()) taps.push_back(valid);
    }
    of.push_back(static_cast<int32_t>(c));
  }
}

AxisPlan::AxisPlan(const Geometry& geometry, int axis, int64_t kernel, int64_t begin, int64_t end)
    : origin(begin * geometry.stride[axis] - geometry.pad_low[axis]),
      step(kernel == 1 ? geometry.stride[axis] : 1),
      stride(kernel == 1 ? 1 : geometry.stride[axis]),
      dilation(kernel == 1 ? 1 : geometry.dilation[axis]),
      extent((end - begin - 1) * stride + (kernel - 1) * dilation + 1),
      columns((extent + dilation - 1) / dilation) {}

namespace {

// Half of a common second-level cache; the other half is for weights.
constexpr int64_t kWindowBytes = 192 << 10;
// The same where matrices are multiplied, whose caches are larger: see MatrixTask.
constexpr int64_t kMatrixWindowBytes = 768 << 10;
// Several windows a thread even out what other programs take of it.
constexpr int64_t kTasksPerThread = 4;

int64_t WindowBytes(const Layer& layer, const Geometry& geometry, int64_t rows, int64_t columns) {
  const AxisPlan y(geometry, 0, layer.kernel_height, 0, rows);
  const AxisPlan x(geometry, 1, layer.kernel_width, 0, columns);
  const int64_t output_bytes = layer.is_matrix() ? 1 : 4;
  return y.size() * x.size() * layer.row_bytes + rows * columns * layer.outputs * output_bytes;
}

}  // namespace

Schedule PlanTasks(const Layer& layer, const Geometry& geometry, int64_t tile, int64_t threads) {
  const int64_t height = geometry.Output(0, layer.kernel_height);
  const int64_t width = geometry.Output(1, layer.kernel_width);
  const int64_t blocks = layer.depthwise ? 1 : layer.groups * layer.blocks_per_group;
  const int64_t most = layer.is_matrix() ? kMatrixWindowBytes : kWindowBytes;
  int64_t columns = width, rows = height;
  while (columns > 8 * tile && WindowBytes(layer, geometry, 1, columns) > most) {
    columns = CeilDiv(CeilDiv(columns, 2), tile) * tile;
  }
  while (rows > 1 && WindowBytes(layer, geometry, rows, columns) > most) {
    rows = CeilDiv(rows, 2);
  }
  const auto windows = [&] {
    return geometry.batch * CeilDiv(height, rows) * CeilDiv(width, columns);
  };
  // Every window of a matrix layer unpacks all weights: no more of them than share the work evenly.
  const int64_t wanted = threads == 1        ? 1
                         : layer.is_matrix() ? RoundUp(std::max<int64_t>(windows(), 1), threads)
                                             : kTasksPerThread * threads;
  // Enough pixels for every thread: smaller windows; otherwise the blocks are shared out too.
  const int64_t pixels_each = std::max<int64_t>(geometry.batch * height * width / wanted, 1);
  const int64_t least = blocks == 1 ? 2 * tile : 8 * tile;
  if (pixels_each < least) {
    // The blocks are shared out.
  } else if (layer.is_matrix()) {
    if (windows() < wanted) {
      const int64_t strips = geometry.batch * CeilDiv(width, columns);
      rows = std::min(rows, CeilDiv(height, CeilDiv(wanted, strips)));
    }
    if (windows() < wanted && columns > 2 * least) {
      const int64_t strips = geometry.batch * CeilDiv(height, rows);
      columns = std::min(columns, RoundUp(CeilDiv(width, CeilDiv(wanted, strips)), tile));
    }
  } else {
    while (windows() < wanted && rows > 1) rows = CeilDiv(rows, 2);
    while (windows() < wanted && columns > 2 * least) {
      columns = CeilDiv(CeilDiv(columns, 2), tile) * tile;
    }
  }
  // Many threads: single tiles of pixels rather than threads without work.
  while (threads > 1 && windows() * blocks < threads && rows > 1) rows = CeilDiv(rows, 2);
  while (threads > 1 && windows() * blocks < threads && columns > tile) {
    columns = CeilDiv(CeilDiv(columns, 2), tile) * tile;
  }
  Schedule schedule;
  const int64_t shares = std::max<int64_t>(windows(), 1);
  // Blocks that are shared out cost a pass over values: a little unevenness costs less.
  schedule.ranges = std::min(
      blocks, layer.is_matrix() ? std::max<int64_t>(wanted / shares, 1) : CeilDiv(wanted, shares));
  schedule.blocks_each = CeilDiv(blocks, schedule.ranges);
  schedule.ranges = CeilDiv(blocks, schedule.blocks_each);
  for (int64_t image = 0; image < geometry.batch; ++image) {
    for (int64_t y = 0; y < height; y += rows) {
      for (int64_t x = 0; x < width; x += columns) {
        schedule.windows.push_back({image, y, std::min(height, y + rows), x,
                                    std::min(width, x + columns)});
      }
    }
  }
  return schedule;
}

}  // namespace hetjax
