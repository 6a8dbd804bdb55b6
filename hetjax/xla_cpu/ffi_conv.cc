// The XLA FFI handler of convolutions and all that may follow them.
#include "ffi_common.h"
#include "pool.h"

namespace ffi = ::xla::ffi;

namespace hetjax {
namespace {

// The operands after the corrections, in order: scale and bias; the input's inv_beta; the residual;
// one inv_beta a consumer. The results: values or accumulators if they are kept; records of every
// consumer. `consumer_*` hold the consumers' layouts one after another.
struct ConvOptions {
  bool has_epilogue, quantizes, has_residual, keeps_values;
  int32_t activation;
  Ints consumer_bits, consumer_levels, consumer_level_counts, consumer_signed;
};

class Operands {
 public:
  explicit Operands(ffi::RemainingArgs rest) : rest_(rest) {}

  const float* Next(const char* name, std::initializer_list<int64_t> shape) {
    if (next_ >= rest_.size()) Refuse("operand ", name, " is missing");
    const auto buffer = rest_.get<ffi::Buffer<ffi::F32>>(next_++);
    if (!buffer.has_value()) Refuse(name, " must be a float32 array");
    CheckShape(name, buffer->dimensions(), shape);
    return buffer->typed_data();
  }
  void CheckEnd() const {
    CheckEqual("operands after the corrections", static_cast<int64_t>(next_),
               static_cast<int64_t>(rest_.size()));
  }

 private:
  ffi::RemainingArgs rest_;
  size_t next_ = 0;
};

// Fills in the operands and results; returns what keeps the consumers' tables alive.
std::vector<std::shared_ptr<const Quantizer>> SetEpilogue(const ConvOptions& options,
                                                          const Layer& layer, int64_t batch,
                                                          int64_t height, int64_t width,
                                                          Operands operands,
                                                          ffi::RemainingRets results,
                                                          ConvArguments* a) {
  if (options.has_epilogue) {
    a->scale = operands.Next("scale", {layer.outputs});
    a->bias = operands.Next("bias", {layer.outputs});
  }
  if (options.quantizes) a->input_inv_beta = *operands.Next("inv_beta", {});
  const bool needs_scale = options.has_residual || options.activation != 0 ||
                           options.consumer_signed.size() > 0;
  if (needs_scale && !options.has_epilogue) {
    Refuse("a residual, an activation and consumers need scale and bias");
  }
  if (options.has_residual) {
    a->residual = operands.Next("residual", {batch, height, width, layer.outputs});
  }
  CheckRange("attribute activation", options.activation, 0, 2);
  a->activation = static_cast<Activation>(options.activation);

  size_t result = 0;
  if (options.keeps_values) {
    if (results.size() < 1) Refuse("a result for the values is missing");
    auto out = results.get<ffi::AnyBuffer>(result++).value();
    CheckShape("output", out->dimensions(), {batch, height, width, layer.outputs});
    const auto expected = options.has_epilogue ? ffi::F32 : ffi::S32;
    if (out->element_type() != expected) {
      Refuse("output must be ", options.has_epilogue ? "float32 with" : "int32 without",
             " scale and bias, got element type ", static_cast<int>(out->element_type()));
    }
    a->out = out->untyped_data();
  } else if (options.consumer_signed.size() == 0) {
    Refuse("values must be kept if there are no consumers");
  }
  const size_t consumers = options.consumer_signed.size();
  const size_t channels = static_cast<size_t>(layer.outputs);
  CheckCount("consumer_bits", options.consumer_bits, consumers * channels);
  CheckCount("consumer_level_counts", options.consumer_level_counts, consumers);
  std::vector<std::shared_ptr<const Quantizer>> keep;
  size_t level = 0;
  for (size_t i = 0; i < consumers; ++i) {
    const int32_t levels = options.consumer_level_counts[i];
    CheckRange("attribute consumer_level_counts", levels, 1, 3);
    if (level + static_cast<size_t>(levels) > options.consumer_levels.size()) {
      Refuse("attribute consumer_levels is too short");
    }
    keep.push_back(QuantizerOf(
        Ints(options.consumer_bits.begin() + i * channels, channels),
        Ints(options.consumer_levels.begin() + level, static_cast<size_t>(levels)),
        options.consumer_signed[i] != 0));
    level += static_cast<size_t>(levels);
    const float* inv_beta = operands.Next("a consumer's inv_beta", {});
    if (result >= results.size()) Refuse("a result for a consumer's records is missing");
    auto records = results.get<ffi::Buffer<ffi::U8>>(result++);
    if (!records.has_value()) Refuse("a consumer's records must be uint8");
    CheckShape("a consumer's records", (*records)->dimensions(),
               {batch, height, width, keep.back()->layout().record_bytes});
    a->consumers.push_back({keep.back().get(), *inv_beta, (*records)->typed_data()});
  }
  operands.CheckEnd();
  CheckEqual("results", static_cast<int64_t>(result), static_cast<int64_t>(results.size()));
  return keep;
}

ffi::Error ConvHandler(ffi::ThreadPool pool, ffi::AnyBuffer x, ffi::Buffer<ffi::U8> weights,
                       ffi::Buffer<ffi::S32> corrections, ffi::RemainingArgs rest,
                       ffi::RemainingRets results, Ints bits, Ints levels, int32_t groups,
                       Ints kernel, std::string_view format, Ints strides, Ints padding,
                       Ints kernel_dilation, bool is_signed, bool has_epilogue, bool quantizes,
                       bool has_residual, bool keeps_values, int32_t activation,
                       Ints consumer_bits, Ints consumer_levels, Ints consumer_level_counts,
                       Ints consumer_signed) {
  return Guard("hetjax_conv", [&] {
    const Kernels& kernels = KernelsFor(CheckedFormat(format));
    const auto layer = LayerOf(bits, levels, groups, kernel, kernels.format());
    CheckCount("strides", strides, 2);
    CheckCount("padding", padding, 4);
    CheckCount("kernel_dilation", kernel_dilation, 2);
    const auto shape = x.dimensions();
    CheckEqual(quantizes ? "rank of x" : "rank of the records", 4,
               static_cast<int64_t>(shape.size()));
    CheckEqual(quantizes ? "channels of x" : "bytes of a record",
               quantizes ? layer->channels : layer->record_bytes, shape[3]);
    if (x.element_type() != (quantizes ? ffi::F32 : ffi::U8)) {
      Refuse(quantizes ? "x to quantize must be float32" : "records must be uint8",
             ", got element type ", static_cast<int>(x.element_type()));
    }
    const Geometry geometry = {shape[0],
                               shape[1],
                               shape[2],
                               {strides[0], strides[1]},
                               {padding[0], padding[2]},
                               {padding[1], padding[3]},
                               {kernel_dilation[0], kernel_dilation[1]}};
    CheckShape("prepared weights", weights.dimensions(), {layer->storage_bytes});
    CheckShape("corrections", corrections.dimensions(),
               {kCorrections, layer->taps, layer->outputs});
    geometry.Check();
    const int64_t height = geometry.Output(0, layer->kernel_height);
    const int64_t width = geometry.Output(1, layer->kernel_width);
    const auto reader = QuantizerOf(bits, levels, is_signed);
    ConvArguments a = {};
    a.input = reader.get();
    if (quantizes) {
      a.values = static_cast<const float*>(x.untyped_data());
    } else {
      a.records = static_cast<const uint8_t*>(x.untyped_data());
    }
    a.is_signed = is_signed;
    a.weights = weights.typed_data();
    a.corrections = corrections.typed_data();
    const auto keep = SetEpilogue(
        {has_epilogue, quantizes, has_residual, keeps_values, activation, consumer_bits,
         consumer_levels, consumer_level_counts, consumer_signed},
        *layer, geometry.batch, height, width, Operands(rest), results, &a);
    CheckConv(*layer, geometry, static_cast<int64_t>(weights.element_count()),
              static_cast<int64_t>(corrections.element_count()),
              geometry.batch * height * width * layer->outputs);
    PoolExecutor executor(pool);
    Conv(*layer, geometry, a, kernels, executor);
  });
}

}  // namespace
}  // namespace hetjax

HETJAX_EXPORT_HANDLER(hetjax_conv);

XLA_FFI_DEFINE_HANDLER_SYMBOL(hetjax_conv, hetjax::ConvHandler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::Buffer<ffi::U8>>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<hetjax::Ints>("bits")
                                  .Attr<hetjax::Ints>("levels")
                                  .Attr<int32_t>("groups")
                                  .Attr<hetjax::Ints>("kernel")
                                  .Attr<std::string_view>("format")
                                  .Attr<hetjax::Ints>("strides")
                                  .Attr<hetjax::Ints>("padding")
                                  .Attr<hetjax::Ints>("kernel_dilation")
                                  .Attr<bool>("signed")
                                  .Attr<bool>("epilogue")
                                  .Attr<bool>("quantize")
                                  .Attr<bool>("residual")
                                  .Attr<bool>("keep_values")
                                  .Attr<int32_t>("activation")
                                  .Attr<hetjax::Ints>("consumer_bits")
                                  .Attr<hetjax::Ints>("consumer_levels")
                                  .Attr<hetjax::Ints>("consumer_level_counts")
                                  .Attr<hetjax::Ints>("consumer_signed"));
