// The XLA FFI handler of max pooling.
#include "core/max_pool.h"
#include "ffi_common.h"
#include "pool.h"

namespace ffi = ::xla::ffi;

namespace hetjax {
namespace {

ffi::Error MaxPoolHandler(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x,
                          ffi::ResultBuffer<ffi::F32> y, Ints window, Ints strides, Ints padding,
                          Ints dilation) {
  return Guard("hetjax_max_pool", [&] {
    CheckCount("window", window, 2);
    CheckCount("strides", strides, 2);
    CheckCount("padding", padding, 4);
    CheckCount("dilation", dilation, 2);
    const auto image = x.dimensions();
    if (image.size() != 4) {
      Refuse("x must have shape (batch, height, width, channels), got ", Text(image));
    }
    const MaxPool what = {{image[0],
                           image[1],
                           image[2],
                           {strides[0], strides[1]},
                           {padding[0], padding[2]},
                           {padding[1], padding[3]},
                           {dilation[0], dilation[1]}},
                          window[0],
                          window[1],
                          image[3]};
    what.Check();
    CheckShape("y", y->dimensions(),
               {image[0], what.output_height(), what.output_width(), image[3]});
    PoolExecutor executor(pool);
    RunMaxPool(what, x.typed_data(), y->typed_data(), executor);
  });
}

}  // namespace
}  // namespace hetjax

HETJAX_EXPORT_HANDLER(hetjax_max_pool);

XLA_FFI_DEFINE_HANDLER_SYMBOL(hetjax_max_pool, hetjax::MaxPoolHandler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>()
                                  .Attr<hetjax::Ints>("window")
                                  .Attr<hetjax::Ints>("strides")
                                  .Attr<hetjax::Ints>("padding")
                                  .Attr<hetjax::Ints>("dilation"));
