// Convolution of packed operands: tasks, tiles and what follows a tile; the arithmetic is in the
// kernels.
#include <algorithm>
#include <cstring>

#include "constants.h"
#include "ops.h"
#include "scratch.h"
#include "taps.h"
#include "window.h"

namespace hetjax {
namespace {

// Everything that the tasks of a call share.
struct Call {
  const Layer& layer;
  const Geometry& geometry;
  const ConvArguments& arguments;
  const Kernels& kernels;
  const TapClasses& rows;
  const TapClasses& columns;
  const Constants& constants;
  int64_t height, width;      // of the output
  const int32_t* multiplier;  // [outputs], depthwise layers only
};

// Raw sums' factors; signed sums of odd levels are twice the kernels' raw sums.
uint32_t Factor(const Layer& layer, int level, bool is_signed) {
  return (is_signed ? 2u : 1u) << 2 * (layer.levels[0] - level);
}

void SetFactors(const Call& call, Tile* tile) {
  const Layer& layer = call.layer;
  const bool is_signed = call.arguments.is_signed;
  // A 1-bit product counts four times a 2-bit one, unless one bit is all there is.
  tile->table_shift = layer.levels[0] == 1 ? 0 : 2;
  tile->table_factor = Factor(layer, layer.levels[0] == 1 ? 1 : 2, is_signed);
  tile->dot_factor = layer.levels[0] < 4 ? 0 : Factor(layer, 4, is_signed);
  tile->wide_factor = is_signed ? 2 : 1;
}

// One task's outputs: windows' pixels times the blocks [begin, end).
class Task {
 public:
  // Values go to the window's own `values` [pixels][outputs], or to the call's out if that is null.
  Task(const Call& call, const Window& window, float* values)
      : call_(call),
        window_(window),
        values_(values),
        out_(static_cast<uint8_t*>(values == nullptr ? call.arguments.out : values)) {}

  void RunBlocks(const ExpandedWindow& input, int64_t begin, int64_t end) {
    input_ = &input;
    for (int64_t block = begin; block < end; ++block) RunBlock(block);
  }

  void RunDepthwise(const ExpandedWindow& input);

 private:
  // Pixel number in the window's own values of column 0 of a row.
  int64_t OwnRow(int64_t y) const {
    return (y - window_.row_begin) * (window_.column_end - window_.column_begin) -
           window_.column_begin;
  }

  void RunBlock(int64_t block);
  void SetParts();
  void SetTaps(int32_t row_class);
  void Flush(int32_t row_class);

  struct PartOfBlock {
    Segment* segment;
    const uint8_t* plane;      // rows of position 0
    const uint8_t* first_row;  // of the first valid row of taps from there
    int64_t position_bytes;
    const uint8_t* weights;    // of tap 0
    int64_t row_weights;       // bytes of a row of taps
  };

  const Call& call_;
  const Window window_;
  float* const values_;
  uint8_t* const out_;  // the window's own values or the call's out; four bytes an output
  const ExpandedWindow* input_ = nullptr;

  int64_t group_ = 0, within_ = 0;  // the block
  int64_t first_ = 0, outputs_ = 0;
  Tile tile_ = {};
  PartOfBlock parts_[3];
  int num_parts_ = 0;
  int32_t row_class_ = -1;  // whose taps the segments hold
  alignas(64) float scale_[kBlock], bias_[kBlock];
  // Of the tile's pixels: among all outputs, where values go, and in the expanded window.
  int64_t pixel_[kMaxTile], out_pixel_[kMaxTile], position_[kMaxTile];
  int32_t column_class_[kMaxTile];
};

void Task::RunBlock(int64_t block) {
  const Layer& layer = call_.layer;
  const ConvArguments& a = call_.arguments;
  group_ = block / layer.blocks_per_group;
  within_ = block % layer.blocks_per_group;
  outputs_ = std::min<int64_t>(kBlock, layer.outputs_per_group - within_ * kBlock);
  first_ = group_ * layer.outputs_per_group + within_ * kBlock;
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
      if (tile_.pixels == call_.kernels.tile) Flush(row_class);
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
    p.plane = input_->Plane(group_, l);
    p.position_bytes = input_->PartBytes(group_, l);
    p.weights = call_.arguments.weights + layer.part_storage(group_, within_, l);
    p.segment->units = static_cast<int32_t>(part.row_units);
    p.row_weights = p.segment->units * layer.unit(l).lane_bytes * tile_.lanes;
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
  alignas(64) uint32_t out[kMaxTile][kBlock];
  alignas(64) float residual[kMaxTile][kBlock];
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

void Task::RunDepthwise(const ExpandedWindow& input) {
  const Layer& layer = call_.layer;
  const ConvArguments& a = call_.arguments;
  std::vector<int64_t> row_offsets, weight_offsets;
  int32_t classes[2] = {-1, -1};
  for (int64_t y = window_.row_begin; y < window_.row_end; ++y) {
    for (int64_t x = window_.column_begin; x < window_.column_end; ++x) {
      const int32_t row_class = call_.rows.of[static_cast<size_t>(y)];
      const int32_t column_class = call_.columns.of[static_cast<size_t>(x)];
      if (row_class != classes[0] || column_class != classes[1]) {
        classes[0] = row_class;
        classes[1] = column_class;
        row_offsets.clear();
        weight_offsets.clear();
        const Range rows = call_.rows.taps[static_cast<size_t>(row_class)];
        const Range columns = call_.columns.taps[static_cast<size_t>(column_class)];
        for (int64_t i = rows.begin; i < rows.end; ++i) {
          for (int64_t j = columns.begin; j < columns.end; ++j) {
            row_offsets.push_back((i * input.x().size() + j) * layer.outputs);
            weight_offsets.push_back((i * layer.kernel_width + j) * layer.outputs);
          }
        }
      }
      DepthwiseTile tile = {};
      tile.rows = input.Codes(input.Position(y - window_.row_begin, x - window_.column_begin));
      tile.row_offsets = row_offsets.data();
      tile.weights = reinterpret_cast<const float*>(a.weights);
      tile.weight_offsets = weight_offsets.data();
      tile.taps = static_cast<int64_t>(row_offsets.size());
      tile.outputs = layer.outputs;
      tile.multiplier = call_.multiplier;
      tile.constants = call_.constants.Of(row_class, column_class);
      tile.scale = a.scale;
      tile.bias = a.bias;
      const int64_t row = (window_.image * call_.height + y) * call_.width;
      const int64_t out_pixel = (values_ == nullptr ? row : OwnRow(y)) + x;
      tile.residual = a.residual == nullptr ? nullptr : a.residual + (row + x) * layer.outputs;
      tile.activation = a.activation;
      tile.out = out_ + 4 * out_pixel * layer.outputs;
      call_.kernels.depthwise(tile);
    }
  }
}

// Packs the values of consecutive pixels for all consumers.
void PackPixels(const Call& call, const float* values, int64_t first, int64_t pixels,
                uint8_t* scratch) {
  for (const Consumer& consumer : call.arguments.consumers) {
    const int64_t bytes = consumer.quantizer->layout().record_bytes;
    consumer.quantizer->Pack(call.kernels, values, pixels, consumer.inv_beta, scratch,
                             consumer.records + first * bytes);
  }
}

int64_t PackScratch(const ConvArguments& arguments) {
  int64_t bytes = 0;
  for (const Consumer& consumer : arguments.consumers) {
    bytes = std::max(bytes, consumer.quantizer->scratch_bytes());
  }
  return bytes;
}

struct TaskMemory {
  TaskMemory(const Call& call, const Window& window, bool has_values, Carver* memory)
      : input(call.layer, call.geometry, call.arguments, window, memory),
        scratch(memory->Take<uint8_t>(PackScratch(call.arguments))),
        values(memory->Take<float>(has_values ? window.pixels() * call.layer.outputs : 0)) {}

  ExpandedWindow input;
  uint8_t* scratch;
  float* values;
};

// Computes blocks [begin, end) of a window; packs the values if `packs`, when these are all blocks.
void RunTask(const Call& call, const Window& window, int64_t begin, int64_t end, bool packs) {
  const ExactFloats exact;
  const bool has_values = packs && call.arguments.out == nullptr;
  Carver sizes;
  TaskMemory(call, window, has_values, &sizes);
  Carver carver(TaskScratch(sizes.used()));
  TaskMemory memory(call, window, has_values, &carver);
  memory.input.Fill(call.kernels);
  Task work(call, window, has_values ? memory.values : nullptr);
  if (call.layer.depthwise) {
    work.RunDepthwise(memory.input);
  } else {
    work.RunBlocks(memory.input, begin, end);
  }
  if (!packs) return;
  const int64_t columns = window.column_end - window.column_begin;
  for (int64_t y = window.row_begin; y < window.row_end; ++y) {
    const int64_t at = (window.image * call.height + y) * call.width + window.column_begin;
    const float* values =
        has_values ? memory.values + (y - window.row_begin) * columns * call.layer.outputs
                   : static_cast<const float*>(call.arguments.out) + at * call.layer.outputs;
    PackPixels(call, values, at, columns, memory.scratch);
  }
}

// Waking a thread costs more than a small layer.
constexpr int64_t kProductsWorthSharing = 1 << 20;
constexpr int64_t kPixelsPerPacking = 32;

// What the tasks of a call share.
struct CallMemory {
  CallMemory(const Layer& layer, const ConvArguments& arguments, const TapClasses& rows,
             const TapClasses& columns, int64_t pixels_kept, Carver* memory)
      : constants(layer, arguments, rows, columns, memory),
        multiplier(memory->Take<int32_t>(layer.depthwise ? layer.outputs : 0)),
        values(memory->Take<float>(pixels_kept * layer.outputs)) {}

  Constants constants;
  int32_t* multiplier;
  float* values;
};

}  // namespace

void Conv(const Layer& layer, const Geometry& given, const ConvArguments& given_arguments,
          const Kernels& kernels, Executor& executor) {
  const Geometry geometry = Flattened(layer, given);
  const int64_t height = geometry.Output(0, layer.kernel_height);
  const int64_t width = geometry.Output(1, layer.kernel_width);
  const int64_t pixels = geometry.batch * height * width;
  if (pixels == 0) return;
  const int64_t products = pixels * layer.taps * layer.outputs * layer.channels_per_group;
  Executor calling_thread;
  Executor& workers = products < kProductsWorthSharing ? calling_thread : executor;
  const Schedule schedule = PlanTasks(layer, geometry, kernels.tile, workers.threads());
  const TapClasses rows(geometry, 0, layer.kernel_height);
  const TapClasses columns(geometry, 1, layer.kernel_width);
  // Where a task has some of the channels only, values are packed once all tasks are done.
  ConvArguments a = given_arguments;
  const bool packs = !a.consumers.empty(), packs_later = packs && schedule.ranges > 1;
  const int64_t kept = packs_later && a.out == nullptr ? pixels : 0;
  Carver sizes;
  CallMemory(layer, a, rows, columns, kept, &sizes);
  Carver carver(CallScratch(sizes.used()));
  const CallMemory memory(layer, a, rows, columns, kept, &carver);
  if (kept > 0) a.out = memory.values;
  for (size_t l = 0; layer.depthwise && l < layer.levels.size(); ++l) {
    for (const int32_t c : layer.of[l]) {
      std::fill_n(memory.multiplier + c * layer.outputs_per_group, layer.outputs_per_group,
                  static_cast<int32_t>(Factor(layer, layer.levels[l], a.is_signed)));
    }
  }
  const Call call = {layer,   geometry,         a,      kernels, rows,
                     columns, memory.constants, height, width,   memory.multiplier};
  const int64_t blocks = layer.groups * layer.blocks_per_group;
  workers.Run(static_cast<int64_t>(schedule.windows.size()) * schedule.ranges, [&](int64_t task) {
    const int64_t first = task % schedule.ranges * schedule.blocks_each;
    RunTask(call, schedule.windows[static_cast<size_t>(task / schedule.ranges)], first,
            std::min(blocks, first + schedule.blocks_each), packs && !packs_later);
  });
  if (!packs_later) return;
  workers.Run((pixels + kPixelsPerPacking - 1) / kPixelsPerPacking, [&](int64_t task) {
    const ExactFloats exact;
    const int64_t first = task * kPixelsPerPacking;
    PackPixels(call, static_cast<const float*>(a.out) + first * layer.outputs, first,
               std::min(kPixelsPerPacking, pixels - first), TaskScratch(PackScratch(a)));
  });
}

}  // namespace hetjax
