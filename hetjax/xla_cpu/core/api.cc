#include <cstring>
#include <exception>

#include "dispatch.h"
#include "error.h"
#include "hetjax_cpu.h"
#include "ops.h"

namespace hetjax {
namespace {

LayerSpec Spec(const hetjax_cpu_layer& c) {
  return {c.bits,   c.channels,      c.levels,       c.num_levels,
          c.groups, c.kernel_height, c.kernel_width, c.outputs};
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

int hetjax_cpu_storage_bytes(const hetjax_cpu_layer* layer, int64_t* bytes, char* error,
                             int64_t error_size) {
  return Guard(error, error_size, [&] { *bytes = Layer(Spec(*layer)).storage_bytes; });
}

int hetjax_cpu_relayout(const hetjax_cpu_layer* layer, const uint8_t* file, int64_t file_size,
                        uint8_t* storage, int64_t storage_size, int32_t* corrections,
                        int64_t corrections_size, char* error, int64_t error_size) {
  return Guard(error, error_size, [&] {
    const Layer plan(Spec(*layer));
    CheckEqual("bytes of the weight file", plan.file_bytes, file_size);
    CheckEqual("bytes of the prepared weights", plan.storage_bytes, storage_size);
    CheckEqual("corrections", plan.taps * plan.outputs, corrections_size);
    Executor serial;
    Relayout(plan, file, storage, corrections, serial);
  });
}

int hetjax_cpu_quantize_pack(const hetjax_cpu_layer* layer, const float* x, int64_t positions,
                             float inv_beta, int is_signed, uint8_t* records, int64_t records_size,
                             char* error, int64_t error_size) {
  return Guard(error, error_size, [&] {
    const RecordLayout layout(layer->bits, layer->channels, layer->levels, layer->num_levels);
    CheckRange("positions", positions, 0, kMaxExtent);
    CheckEqual("bytes of the records", positions * layout.record_bytes, records_size);
    Executor serial;
    QuantizePack(layout, x, positions, inv_beta, is_signed != 0, records, ActiveKernels(), serial);
  });
}

int hetjax_cpu_conv(const hetjax_cpu_layer* layer, const hetjax_cpu_geometry* geometry,
                    const uint8_t* records, int64_t records_size, const uint8_t* storage,
                    int64_t storage_size, const int32_t* corrections, int64_t corrections_size,
                    const float* scale, const float* bias, int is_signed, void* out,
                    int64_t out_size, char* error, int64_t error_size) {
  return Guard(error, error_size, [&] {
    const Layer plan(Spec(*layer));
    const Geometry g = MakeGeometry(*geometry);
    CheckConv(plan, g, records_size, storage_size, corrections_size, out_size);
    if ((scale == nullptr) != (bias == nullptr)) Refuse("scale and bias must be given together");
    Executor serial;
    Conv(plan, g, {records, storage, corrections, scale, bias, is_signed != 0, out},
         ActiveKernels(), serial);
  });
}
