// XLA FFI handlers: decode and check buffers and attributes, then call the core.
#include <new>
#include <string>

#include "core/error.h"
#include "core/ops.h"
#include "pool.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = ::xla::ffi;

namespace hetjax {
namespace {

using Ints = ffi::Span<const int32_t>;

template <typename F>
ffi::Error Guard(const char* handler, const F& body) {
  try {
    body();
    return ffi::Error::Success();
  } catch (const std::invalid_argument& e) {
    return ffi::Error::InvalidArgument(std::string(handler) + ": " + e.what());
  } catch (const std::bad_alloc&) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted,
                      std::string(handler) + ": out of memory");
  } catch (const std::exception& e) {
    return ffi::Error::Internal(std::string(handler) + ": " + e.what());
  }
}

std::string Text(ffi::AnyBuffer::Dimensions shape) {
  std::string text = "(";
  for (const int64_t extent : shape) {
    text += (text.size() == 1 ? "" : ", ") + std::to_string(extent);
  }
  return text + ")";
}

// Checks that `shape` has the extents `expected`.
void CheckShape(const char* name, ffi::AnyBuffer::Dimensions shape,
                std::initializer_list<int64_t> expected) {
  if (shape.size() == expected.size() && std::equal(shape.begin(), shape.end(), expected.begin())) {
    return;
  }
  const std::vector<int64_t> copy(expected);
  Refuse(name, " must have shape ",
         Text(ffi::AnyBuffer::Dimensions(copy.data(), copy.size())), ", got ", Text(shape));
}

void CheckCount(const char* name, Ints values, size_t count) {
  CheckEqual((std::string("values of attribute ") + name).c_str(), static_cast<int64_t>(count),
             static_cast<int64_t>(values.size()));
}

// `kernel` holds height, width, output channels.
Layer MakeLayer(Ints bits, Ints levels, int32_t groups, Ints kernel) {
  CheckCount("kernel", kernel, 3);
  return Layer({bits.begin(), static_cast<int64_t>(bits.size()), levels.begin(),
                static_cast<int64_t>(levels.size()), groups, kernel[0], kernel[1], kernel[2]});
}

ffi::Error RelayoutHandler(ffi::ThreadPool pool, ffi::Buffer<ffi::U8> file,
                           ffi::ResultBuffer<ffi::U8> storage,
                           ffi::ResultBuffer<ffi::S32> corrections, Ints bits, Ints levels,
                           int32_t groups, Ints kernel) {
  return Guard("hetjax_relayout", [&] {
    const Layer layer = MakeLayer(bits, levels, groups, kernel);
    CheckShape("weights", file.dimensions(), {layer.file_bytes});
    CheckShape("prepared weights", storage->dimensions(), {layer.storage_bytes});
    CheckShape("corrections", corrections->dimensions(), {layer.taps, layer.outputs});
    PoolExecutor executor(pool);
    Relayout(layer, file.typed_data(), storage->typed_data(), corrections->typed_data(), executor);
  });
}

ffi::Error QuantizePackHandler(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x,
                               ffi::Buffer<ffi::F32> inv_beta, ffi::ResultBuffer<ffi::U8> records,
                               Ints bits, Ints levels, bool is_signed) {
  return Guard("hetjax_quantize_pack", [&] {
    const RecordLayout layout(bits.begin(), static_cast<int64_t>(bits.size()), levels.begin(),
                              static_cast<int64_t>(levels.size()));
    const auto shape = x.dimensions();
    const auto out = records->dimensions();
    CheckShape("inv_beta", inv_beta.dimensions(), {});
    if (shape.size() < 1) Refuse("x must have at least one axis, the channels");
    CheckEqual("channels of x", layout.channels, shape[shape.size() - 1]);
    if (out.size() != shape.size() ||
        !std::equal(shape.begin(), shape.end() - 1, out.begin()) ||
        out[out.size() - 1] != layout.record_bytes) {
      Refuse("records of x ", Text(shape), " must end in ", layout.record_bytes, ", got ",
             Text(out));
    }
    int64_t positions = 1;
    for (size_t i = 0; i + 1 < shape.size(); ++i) positions *= shape[i];
    PoolExecutor executor(pool);
    QuantizePack(layout, x.typed_data(), positions, *inv_beta.typed_data(), is_signed,
                 records->typed_data(), ActiveKernels(), executor);
  });
}

// Scale and bias, or neither.
void SetEpilogue(ffi::RemainingArgs rest, int64_t outputs, ConvArguments* arguments) {
  if (rest.size() == 0) return;
  CheckEqual("operands after the corrections", 2, static_cast<int64_t>(rest.size()));
  const char* names[2] = {"scale", "bias"};
  const float* values[2];
  for (size_t i = 0; i < 2; ++i) {
    const auto buffer = rest.get<ffi::Buffer<ffi::F32>>(i);
    if (!buffer.has_value()) Refuse(names[i], " must be a float32 array");
    CheckShape(names[i], buffer->dimensions(), {outputs});
    values[i] = buffer->typed_data();
  }
  arguments->scale = values[0];
  arguments->bias = values[1];
}

ffi::Error ConvHandler(ffi::ThreadPool pool, ffi::Buffer<ffi::U8> records,
                       ffi::Buffer<ffi::U8> weights, ffi::Buffer<ffi::S32> corrections,
                       ffi::RemainingArgs rest, ffi::Result<ffi::AnyBuffer> out, Ints bits,
                       Ints levels, int32_t groups, Ints kernel, Ints strides, Ints padding,
                       Ints kernel_dilation, bool is_signed) {
  return Guard("hetjax_conv", [&] {
    const Layer layer = MakeLayer(bits, levels, groups, kernel);
    CheckCount("strides", strides, 2);
    CheckCount("padding", padding, 4);
    CheckCount("kernel_dilation", kernel_dilation, 2);
    const auto shape = records.dimensions();
    CheckEqual("rank of the records", 4, static_cast<int64_t>(shape.size()));
    CheckEqual("bytes of a record", layer.record_bytes, shape[3]);
    const Geometry geometry = {shape[0],
                               shape[1],
                               shape[2],
                               {strides[0], strides[1]},
                               {padding[0], padding[2]},
                               {padding[1], padding[3]},
                               {kernel_dilation[0], kernel_dilation[1]}};
    CheckShape("prepared weights", weights.dimensions(), {layer.storage_bytes});
    CheckShape("corrections", corrections.dimensions(), {layer.taps, layer.outputs});
    CheckConv(layer, geometry, static_cast<int64_t>(records.element_count()),
              static_cast<int64_t>(weights.element_count()),
              static_cast<int64_t>(corrections.element_count()),
              static_cast<int64_t>(out->element_count()));
    CheckShape("output", out->dimensions(),
               {geometry.batch, geometry.Output(0, layer.kernel_height),
                geometry.Output(1, layer.kernel_width), layer.outputs});
    ConvArguments arguments = {};
    SetEpilogue(rest, layer.outputs, &arguments);
    const auto expected = arguments.scale == nullptr ? ffi::S32 : ffi::F32;
    if (out->element_type() != expected) {
      Refuse("output must be ", expected == ffi::S32 ? "int32 without" : "float32 with",
             " scale and bias, got element type ", static_cast<int>(out->element_type()));
    }
    arguments.records = records.typed_data();
    arguments.weights = weights.typed_data();
    arguments.corrections = corrections.typed_data();
    arguments.is_signed = is_signed;
    arguments.out = out->untyped_data();
    PoolExecutor executor(pool);
    Conv(layer, geometry, arguments, ActiveKernels(), executor);
  });
}

}  // namespace
}  // namespace hetjax

// The library hides its symbols but for the C interface and these, which Python looks up by name.
#define HETJAX_EXPORT_HANDLER(name)                                      \
  extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* name( \
      XLA_FFI_CallFrame* call_frame)
HETJAX_EXPORT_HANDLER(hetjax_relayout);
HETJAX_EXPORT_HANDLER(hetjax_quantize_pack);
HETJAX_EXPORT_HANDLER(hetjax_conv);

XLA_FFI_DEFINE_HANDLER_SYMBOL(hetjax_relayout, hetjax::RelayoutHandler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::U8>>()
                                  .Ret<ffi::Buffer<ffi::U8>>()
                                  .Ret<ffi::Buffer<ffi::S32>>()
                                  .Attr<hetjax::Ints>("bits")
                                  .Attr<hetjax::Ints>("levels")
                                  .Attr<int32_t>("groups")
                                  .Attr<hetjax::Ints>("kernel"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(hetjax_quantize_pack, hetjax::QuantizePackHandler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::U8>>()
                                  .Attr<hetjax::Ints>("bits")
                                  .Attr<hetjax::Ints>("levels")
                                  .Attr<bool>("signed"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(hetjax_conv, hetjax::ConvHandler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::U8>>()
                                  .Arg<ffi::Buffer<ffi::U8>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .RemainingArgs()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<hetjax::Ints>("bits")
                                  .Attr<hetjax::Ints>("levels")
                                  .Attr<int32_t>("groups")
                                  .Attr<hetjax::Ints>("kernel")
                                  .Attr<hetjax::Ints>("strides")
                                  .Attr<hetjax::Ints>("padding")
                                  .Attr<hetjax::Ints>("kernel_dilation")
                                  .Attr<bool>("signed"));
