// Convolution of packed operands: its tasks, their memory, and the packing of what they compute.
#include <algorithm>
#include <optional>

#include "matrix_task.h"
#include "scratch.h"
#include "task.h"

namespace hetjax {
namespace {

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

// Packs a row's codes.
void PackCodes(const Call& call, const MatrixCodes& codes, int64_t first, int64_t pixels,
               uint8_t* scratch) {
  for (int64_t i = 0; i < pixels; i += kPackedTogether) {
    const int64_t count = std::min<int64_t>(kPackedTogether, pixels - i);
    call.kernels.pack(*codes.channels, codes.codes + i * codes.pixel_bytes, count,
                      codes.pixel_bytes, scratch,
                      codes.records + (first + i) * codes.record_bytes, codes.record_bytes);
  }
}

// `packs` only if all blocks are computed; values are the task's own if it packs and they are not
// kept.
struct TaskMemory {
  TaskMemory(const Call& call, const Window& window, bool packs, Carver* memory)
      : input(call.layer, call.geometry, call.arguments, window, memory),
        scratch(memory->Take<uint8_t>(PackScratch(call.arguments))) {
    if (call.layer.is_matrix()) {
      matrix.emplace(call, window, input, packs, memory);
      return;
    }
    if (!packs || call.arguments.out != nullptr) return;
    if (call.layer.narrow_depthwise && call.kernels.depthwise_codes != nullptr &&
        call.arguments.consumers.size() == 1) {
      MatrixCodes row = CodesOf(call.arguments.consumers[0], nullptr);
      if (row.is_plain) {
        const int64_t columns = window.column_end - window.column_begin;
        row.codes = memory->Take<uint8_t>(columns * row.pixel_bytes + kRowSlack);
        codes = row;
        return;
      }
    }
    values = memory->Take<float>(ValuesOf(call, window));
  }

  // Depthwise layers compute row by row.
  static int64_t ValuesOf(const Call& call, const Window& window) {
    const int64_t columns = window.column_end - window.column_begin;
    return (call.layer.depthwise ? columns : window.pixels()) * call.layer.outputs;
  }

  ExpandedWindow input;
  uint8_t* scratch;
  std::optional<MatrixTask> matrix;
  std::optional<MatrixCodes> codes;  // of a row of a depthwise layer, in place of values
  float* values = nullptr;
};

// Computes blocks [begin, end) of a window; packs the values if `packs`, when these are all blocks.
void RunTask(const Call& call, const Window& window, int64_t begin, int64_t end, bool packs) {
  const ExactFloats exact;
  Carver sizes;
  TaskMemory(call, window, packs, &sizes);
  Carver carver(TaskScratch(sizes.used()));
  TaskMemory memory(call, window, packs, &carver);
  memory.input.Fill(call.kernels);
  if (memory.matrix) return memory.matrix->Run(begin, end);
  float* const own = memory.values;
  const int64_t columns = window.column_end - window.column_begin;
  const auto pack = [&](int64_t y, const float* values) {
    if (!packs) return;
    const int64_t at = (window.image * call.height + y) * call.width + window.column_begin;
    if (memory.codes) return PackCodes(call, *memory.codes, at, columns, memory.scratch);
    if (values == nullptr) {
      values = static_cast<const float*>(call.arguments.out) + at * call.layer.outputs;
    }
    PackPixels(call, values, at, columns, memory.scratch);
  };
  if (call.layer.depthwise) {
    const MatrixCodes* codes = memory.codes ? &*memory.codes : nullptr;
    Task(call, window, own).RunDepthwise(memory.input, codes, [&](int64_t y) { pack(y, own); });
    return;
  }
  Task(call, window, own).RunBlocks(memory.input, begin, end);
  for (int64_t y = window.row_begin; y < window.row_end; ++y) {
    const int64_t own_row = (y - window.row_begin) * columns * call.layer.outputs;
    pack(y, own == nullptr ? nullptr : own + own_row);
  }
}

// Waking a thread costs more than a small layer. Finishing and packing an output takes about as
// long as this many products.
constexpr int64_t kProductsPerOutput = 256;
constexpr int64_t kProductsWorthSharing = 4 << 20, kMatrixProductsWorthSharing = 8 << 20;
constexpr int64_t kUnpackingPixels = 112;
constexpr int64_t kPixelsPerPacking = 32;

// What the tasks of a call share.
struct CallMemory {
  CallMemory(const Layer& layer, const ConvArguments& arguments, const TapClasses& rows,
             const TapClasses& columns, int64_t pixels_kept, Carver* memory)
      : constants(layer, arguments, rows, columns, memory),
        multiplier(memory->Take<int32_t>(layer.has_multipliers() ? layer.outputs : 0)),
        values(memory->Take<float>(pixels_kept * layer.outputs)) {}

  Constants constants;
  int32_t* multiplier;
  float* values;
};

}  // namespace

void Conv(const Layer& layer, const Geometry& given, const ConvArguments& given_arguments,
          const Kernels& given_kernels, Executor& executor) {
  const Kernels& kernels = KernelsOf(layer, given_kernels);
  const Geometry geometry = Flattened(layer, given);
  const int64_t height = geometry.Output(0, layer.kernel_height);
  const int64_t width = geometry.Output(1, layer.kernel_width);
  const int64_t pixels = geometry.batch * height * width;
  if (pixels == 0) return;
  // Threads that share a matrix layer's pixels all unpack its weights, which takes as long as some
  // pixels. Threads that share blocks of few pixels have to pack once all are done, which was
  // slower than one thread (7x7x512).
  const int64_t shared_pixels =
      layer.is_matrix() ? std::max<int64_t>(0, pixels - kUnpackingPixels) : pixels;
  const int64_t products =
      shared_pixels * layer.outputs * (layer.taps * layer.channels_per_group + kProductsPerOutput);
  Executor calling_thread;
  const int64_t worth = layer.is_matrix() ? kMatrixProductsWorthSharing : kProductsWorthSharing;
  Executor& workers = products < executor.least_products(worth) ? calling_thread : executor;
  const Schedule schedule =
      PlanTasks(layer, geometry, FullTile(kernels, layer.lanes(0)), workers.threads());
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
  for (size_t l = 0; layer.has_multipliers() && l < layer.levels.size(); ++l) {
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
