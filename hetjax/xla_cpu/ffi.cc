// XLA FFI handlers of everything but convolutions: decode and check, then call the core.
#include "ffi_common.h"
#include "pool.h"

namespace ffi = ::xla::ffi;

namespace hetjax {
namespace {

ffi::Error RelayoutHandler(ffi::ThreadPool pool, ffi::Buffer<ffi::U8> file,
                           ffi::ResultBuffer<ffi::U8> storage,
                           ffi::ResultBuffer<ffi::S32> corrections, Ints bits, Ints levels,
                           int32_t groups, Ints kernel, std::string_view format) {
  return Guard("hetjax_relayout", [&] {
    const auto layer = LayerOf(bits, levels, groups, kernel, CheckedFormat(format));
    CheckShape("weights", file.dimensions(), {layer->file_bytes});
    CheckShape("prepared weights", storage->dimensions(), {layer->storage_bytes});
    CheckShape("corrections", corrections->dimensions(),
               {kCorrections, layer->taps, layer->outputs});
    PoolExecutor executor(pool);
    Relayout(*layer, file.typed_data(), storage->typed_data(), corrections->typed_data(), executor);
  });
}

ffi::Error QuantizePackHandler(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x,
                               ffi::Buffer<ffi::F32> inv_beta, ffi::ResultBuffer<ffi::U8> records,
                               Ints bits, Ints levels, bool is_signed) {
  return Guard("hetjax_quantize_pack", [&] {
    const auto quantizer = QuantizerOf(bits, levels, is_signed);
    const int64_t record_bytes = quantizer->layout().record_bytes;
    const auto shape = x.dimensions();
    const auto out = records->dimensions();
    CheckShape("inv_beta", inv_beta.dimensions(), {});
    if (shape.size() < 1) Refuse("x must have at least one axis, the channels");
    CheckEqual("channels of x", quantizer->layout().channels, shape[shape.size() - 1]);
    if (out.size() != shape.size() ||
        !std::equal(shape.begin(), shape.end() - 1, out.begin()) ||
        out[out.size() - 1] != record_bytes) {
      Refuse("records of x ", Text(shape), " must end in ", record_bytes, ", got ", Text(out));
    }
    int64_t positions = 1;
    for (size_t i = 0; i + 1 < shape.size(); ++i) positions *= shape[i];
    PoolExecutor executor(pool);
    QuantizePack(*quantizer, x.typed_data(), positions, *inv_beta.typed_data(),
                 records->typed_data(), ActiveKernels(), executor);
  });
}

}  // namespace
}  // namespace hetjax

HETJAX_EXPORT_HANDLER(hetjax_relayout);
HETJAX_EXPORT_HANDLER(hetjax_quantize_pack);

XLA_FFI_DEFINE_HANDLER_SYMBOL(hetjax_relayout, hetjax::RelayoutHandler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::U8>>()
                                  .Ret<ffi::Buffer<ffi::U8>>()
                                  .Ret<ffi::Buffer<ffi::S32>>()
                                  .Attr<hetjax::Ints>("bits")
                                  .Attr<hetjax::Ints>("levels")
                                  .Attr<int32_t>("groups")
                                  .Attr<hetjax::Ints>("kernel")
                                  .Attr<std::string_view>("format"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(hetjax_quantize_pack, hetjax::QuantizePackHandler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::U8>>()
                                  .Attr<hetjax::Ints>("bits")
                                  .Attr<hetjax::Ints>("levels")
                                  .Attr<bool>("signed"));
