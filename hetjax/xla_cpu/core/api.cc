#include <cstring>
#include <exception>
#include <memory>
#include <vector>

#include "dispatch.h"
#include "error.h"
#include "hetjax_cpu.h"
#include "limits.h"
#include "ops.h"
#include "taps.h"

namespace hetjax {
namespace {

// Whatever is read or written must be there; a buffer without elements need not.
void CheckGiven(const char* name, const void* pointer, int64_t size = 1) {
  if (pointer == nullptr && size != 0) Refuse(name, " must be given");
}

void CheckChannels(const hetjax_cpu_layer* layer) {
  CheckGiven("layer", layer);
  CheckGiven("bits", layer->bits);
  CheckGiven("levels", layer->levels);
}

Layer ActiveLayer(const hetjax_cpu_layer* layer) {
  CheckChannels(layer);
  const hetjax_cpu_layer& c = *layer;
  return Layer({c.bits, c.channels, c.levels, c.num_levels, c.groups, c.kernel_height,
                c.kernel_width, c.outputs},
               ActiveKernels().format());
}

Geometry MakeGeometry(const hetjax_cpu_geometry& c) {
  return {c.batch,
          c.height,
          c.width,
          {c.strides[0], c.strides[1]},
          {c.padding[0], c.padding[2]},
          {c.padding[1], c.padding[3]},
          {c.kernel_dilation[0], c.kernel_dilation[1]}};
}

void SetEpilogue(const hetjax_cpu_epilogue& c, int64_t outputs, int64_t out_size, ConvArguments* a,
                 std::vector<std::unique_ptr<Quantizer>>* quantizers) {
  CheckGiven("scale", c.scale);
  CheckGiven("bias", c.bias);
  CheckRange("activation", c.activation, 0, 2);
  CheckRange("consumers", c.num_consumers, 0, kMaxExtent);
  a->scale = c.scale;
  a->bias = c.bias;
  a->residual = c.residual;
  a->activation = static_cast<Activation>(c.activation);
  CheckGiven("consumers", c.consumers, c.num_consumers);
  for (int64_t i = 0; i < c.num_consumers; ++i) {
    const hetjax_cpu_consumer& consumer = c.consumers[i];
    CheckGiven("bits of a consumer", consumer.bits);
    CheckGiven("levels of a consumer", consumer.levels);
    CheckGiven("records of a consumer", consumer.records, consumer.records_size);
    quantizers->push_back(std::make_unique<Quantizer>(
        RecordLayout(consumer.bits, outputs, consumer.levels, consumer.num_levels),
        consumer.is_signed != 0));
    CheckEqual("bytes of a consumer's records",
               out_size / outputs * quantizers->back()->layout().record_bytes,
               consumer.records_size);
    a->consumers.push_back({quantizers->back().get(), consumer.inv_beta, consumer.records});
  }
}

template <typename F>
int Guard(char* error, int64_t error_size, const F& body) {
  const char* message = "unknown error";
  try {
    body();
    return 0;
  } catch (const std::exception& e) {
    message = e.what();
    if (error != nullptr && error_size > 0) {
      std::strncpy(error, message, static_cast<size_t>(error_size));
      error[error_size - 1] = '\0';
    }
  }
  return 1;
}

}  // namespace
}  // namespace hetjax

using namespace hetjax;

const char* hetjax_cpu_compiler(void) {
#if defined(__clang__)
  return "clang " __clang_version__;
#elif defined(__GNUC__)
  return "gcc " __VERSION__;
#else
  return "unknown";
#endif
}

const char* hetjax_cpu_isas(void) { return AvailableNames().c_str(); }

const char* hetjax_cpu_forced_isa(void) { return ForcedName(); }

int hetjax_cpu_force_isa(const char* name, char* error, int64_t error_size) {
  return Guard(error, error_size, [&] { ForceKernels(name); });
}

int hetjax_cpu_active_isa(const char** name, char* error, int64_t error_size) {
  return Guard(error, error_size, [&] { *name = ActiveKernels().name; });
}

int hetjax_cpu_format(const char** name, char* error, int64_t error_size) {
  return Guard(error, error_size, [&] { *name = ActiveKernels().format().name; });
}

int hetjax_cpu_storage_bytes(const hetjax_cpu_layer* layer, int64_t* bytes, char* error,
                             int64_t error_size) {
  return Guard(error, error_size, [&] {
    CheckGiven("bytes", bytes);
    *bytes = ActiveLayer(layer).storage_bytes;
  });
}

int hetjax_cpu_relayout(const hetjax_cpu_layer* layer, const uint8_t* file, int64_t file_size,
                        uint8_t* storage, int64_t storage_size, int32_t* corrections,
                        int64_t corrections_size, char* error, int64_t error_size) {
  return Guard(error, error_size, [&] {
    const Layer plan = ActiveLayer(layer);
    CheckEqual("bytes of the weight file", plan.file_bytes, file_size);
    CheckEqual("bytes of the prepared weights", plan.storage_bytes, storage_size);
    CheckEqual("corrections", kCorrections * plan.taps * plan.outputs, corrections_size);
    CheckGiven("weight file", file);
    CheckGiven("prepared weights", storage);
    CheckGiven("corrections", corrections);
    Executor serial;
    Relayout(plan, file, storage, corrections, serial);
  });
}

int hetjax_cpu_quantize_pack(const hetjax_cpu_layer* layer, const float* x, int64_t positions,
                             float inv_beta, int is_signed, uint8_t* records, int64_t records_size,
                             char* error, int64_t error_size) {
  return Guard(error, error_size, [&] {
    CheckChannels(layer);
    const Quantizer quantizer(
        RecordLayout(layer->bits, layer->channels, layer->levels, layer->num_levels),
        is_signed != 0);
    CheckRange("positions", positions, 0, kMaxExtent);
    CheckEqual("bytes of the records", positions * quantizer.layout().record_bytes, records_size);
    CheckGiven("x", x, positions);
    CheckGiven("records", records, positions);
    Executor serial;
    QuantizePack(quantizer, x, positions, inv_beta, records, ActiveKernels(), serial);
  });
}

int hetjax_cpu_conv(const hetjax_cpu_layer* layer, const hetjax_cpu_geometry* geometry,
                    const hetjax_cpu_input* input, const hetjax_cpu_epilogue* epilogue, void* out,
                    int64_t out_size, char* error, int64_t error_size) {
  return Guard(error, error_size, [&] {
    const Layer plan = ActiveLayer(layer);
    CheckGiven("geometry", geometry);
    CheckGiven("input", input);
    const Geometry g = MakeGeometry(*geometry);
    CheckConv(plan, g, input->storage_size, input->corrections_size, out_size);
    const int64_t pixels = g.batch * g.height * g.width;
    CheckGiven("prepared weights", input->storage);
    CheckGiven("corrections", input->corrections);
    if ((input->records == nullptr) == (input->values == nullptr) && pixels > 0) {
      Refuse("one of records and values must be given");
    }
    if (input->values == nullptr) {
      CheckEqual("bytes of the records", pixels * plan.record_bytes, input->records_size);
    } else {
      CheckEqual("values", pixels * plan.channels, input->values_size);
    }
    const Quantizer reader(plan, input->is_signed != 0);
    ConvArguments a = {};
    a.records = input->records;
    a.values = input->values;
    a.input = &reader;
    a.input_inv_beta = input->inv_beta;
    a.is_signed = input->is_signed != 0;
    a.weights = input->storage;
    a.corrections = input->corrections;
    a.out = out;
    std::vector<std::unique_ptr<Quantizer>> quantizers;
    if (epilogue != nullptr) SetEpilogue(*epilogue, plan.outputs, out_size, &a, &quantizers);
    if (a.consumers.empty()) CheckGiven("out, where there are no consumers,", out, out_size);
    Executor serial;
    Conv(plan, g, a, ActiveKernels(), serial);
  });
}

int hetjax_cpu_tasks(const hetjax_cpu_layer* layer, const hetjax_cpu_geometry* geometry,
                     int64_t threads, int64_t* work, int64_t work_size, int64_t* count, char* error,
                     int64_t error_size) {
  return Guard(error, error_size, [&] {
    CheckRange("threads", threads, 1, kMaxExtent);
    const Layer plan = ActiveLayer(layer);
    CheckGiven("geometry", geometry);
    CheckGiven("count", count);
    CheckRange("room for tasks", work_size, 0, kMaxExtent);
    CheckGiven("work", work, work_size);
    // A list of them all is made.
    constexpr int64_t kMostOutputs = int64_t{1} << 28;
    const int64_t outputs = CheckedOutputs(plan, MakeGeometry(*geometry));
    CheckRange("outputs", outputs, 0, kMostOutputs);
    *count = 0;
    if (outputs == 0) return;
    const Geometry g = Flattened(plan, MakeGeometry(*geometry));
    const Schedule schedule =
        PlanTasks(plan, g, FullTile(KernelsOf(plan, ActiveKernels()), plan.lanes(0)), threads);
    const int64_t blocks = plan.groups * plan.blocks_per_group;
    for (const Window& window : schedule.windows) {
      for (int64_t range = 0; range < schedule.ranges; ++range) {
        int64_t lanes = plan.depthwise ? plan.outputs : 0;
        const int64_t first = range * schedule.blocks_each;
        for (int64_t b = first; !plan.depthwise && b < first + schedule.blocks_each && b < blocks;
             ++b) {
          lanes += plan.lanes(b % plan.blocks_per_group);
        }
        if (*count < work_size) work[*count] = window.pixels() * lanes;
        *count += 1;
      }
    }
  });
}

int hetjax_cpu_limit(const char* isa, int32_t level, double seconds, double* rate, char* error,
                     int64_t error_size) {
  return Guard(error, error_size, [&] {
    CheckGiven("isa", isa);
    CheckGiven("rate", rate);
    *rate = InstructionLimit(isa, level, seconds);
  });
}
