// The XLA FFI handler of the gradients of training's quantizers.
#include "core/float_quantizer.h"
#include "ffi_common.h"
#include "pool.h"

namespace ffi = ::xla::ffi;

namespace hetjax {
namespace {

using Floats = ffi::Buffer<ffi::F32>;
using FloatScalar = ffi::BufferR0<ffi::F32>;

// `noisy` is read if the values had noise; if they were rounded, any array of the shape serves.
ffi::Error FloatQuantizerHandler(ffi::ThreadPool pool, Floats gradient, Floats x, Floats noisy,
                                 FloatScalar inv_scale, Floats sigma,
                                 ffi::ResultBuffer<ffi::F32> x_gradient,
                                 ffi::ResultBuffer<ffi::F32> sigma_gradient,
                                 ffi::ResultBuffer<ffi::F32> inv_scale_gradient, bool is_signed,
                                 bool is_rounded, float factor) {
  return Guard("hetjax_float_quantizer", [&] {
    const auto shape = x.dimensions();
    if (shape.size() != 2) Refuse("x must have shape (rows, channels), got ", Text(shape));
    const int64_t rows = shape[0], channels = shape[1];
    CheckShape("gradient", gradient.dimensions(), {rows, channels});
    CheckShape("noisy values", noisy.dimensions(), {rows, channels});
    CheckShape("sigma", sigma.dimensions(), {channels});
    CheckShape("gradient of x", x_gradient->dimensions(), {rows, channels});
    CheckShape("gradient of sigma", sigma_gradient->dimensions(), {channels});
    CheckShape("gradient of the scale", inv_scale_gradient->dimensions(), {channels});
    const FloatQuantizer quantizer = {rows,
                                      channels,
                                      is_signed,
                                      gradient.typed_data(),
                                      x.typed_data(),
                                      is_rounded ? nullptr : noisy.typed_data(),
                                      *inv_scale.typed_data(),
                                      factor,
                                      sigma.typed_data()};
    quantizer.Check();
    PoolExecutor executor(pool);
    FloatQuantizerGradient(quantizer, x_gradient->typed_data(), sigma_gradient->typed_data(),
                           inv_scale_gradient->typed_data(), executor);
  });
}

}  // namespace
}  // namespace hetjax

HETJAX_EXPORT_HANDLER(hetjax_float_quantizer);

XLA_FFI_DEFINE_HANDLER_SYMBOL(hetjax_float_quantizer, hetjax::FloatQuantizerHandler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<hetjax::Floats>()
                                  .Arg<hetjax::Floats>()
                                  .Arg<hetjax::Floats>()
                                  .Arg<hetjax::FloatScalar>()
                                  .Arg<hetjax::Floats>()
                                  .Ret<hetjax::Floats>()
                                  .Ret<hetjax::Floats>()
                                  .Ret<hetjax::Floats>()
                                  .Attr<bool>("is_signed")
                                  .Attr<bool>("is_rounded")
                                  .Attr<float>("factor"));
