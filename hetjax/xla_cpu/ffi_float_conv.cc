// The XLA FFI handler of float32 convolutions and their gradients.
#include "core/float_conv.h"
#include "ffi_common.h"
#include "pool.h"

namespace ffi = ::xla::ffi;

namespace hetjax {
namespace {

using Floats = ffi::Buffer<ffi::F32>;

// `product` says what is computed, from which operands: "forward" from image and kernel,
// "input_gradient" from the outputs' gradient and the kernel, "kernel_gradient" from the image and
// the outputs' gradient. `image` is batch, height, width, channels; `kernel` its height, width,
// inputs of an output (all channels, or one: a depthwise convolution) and outputs.
ffi::Error FloatConvHandler(ffi::ThreadPool pool, Floats a, Floats b,
                            ffi::ResultBuffer<ffi::F32> result, std::string_view product,
                            Ints image, Ints kernel, Ints strides, Ints padding,
                            Ints kernel_dilation) {
  return Guard("hetjax_float_conv", [&] {
    CheckCount("image", image, 4);
    CheckCount("kernel", kernel, 4);
    CheckCount("strides", strides, 2);
    CheckCount("padding", padding, 4);
    CheckCount("kernel_dilation", kernel_dilation, 2);
    const bool depthwise = kernel[2] == 1 && image[3] > 1;
    if (!depthwise && kernel[2] != image[3]) {
      Refuse("kernel must read one or all of the image's ", image[3], " channels, got ", kernel[2]);
    }
    const FloatConv conv = {{image[0],
                             image[1],
                             image[2],
                             {strides[0], strides[1]},
                             {padding[0], padding[2]},
                             {padding[1], padding[3]},
                             {kernel_dilation[0], kernel_dilation[1]}},
                            kernel[0],
                            kernel[1],
                            image[3],
                            kernel[3],
                            depthwise};
    conv.Check();
    const auto check_image = [&](const char* name, ffi::AnyBuffer::Dimensions shape) {
      CheckShape(name, shape, {image[0], image[1], image[2], image[3]});
    };
    const auto check_kernel = [&](const char* name, ffi::AnyBuffer::Dimensions shape) {
      CheckShape(name, shape, {kernel[0], kernel[1], kernel[2], kernel[3]});
    };
    const auto check_output = [&](const char* name, ffi::AnyBuffer::Dimensions shape) {
      CheckShape(name, shape, {image[0], conv.output_height(), conv.output_width(), kernel[3]});
    };
    PoolExecutor executor(pool);
    if (product == "forward") {
      check_image("x", a.dimensions());
      check_kernel("kernel", b.dimensions());
      check_output("y", result->dimensions());
      FloatForward(conv, a.typed_data(), b.typed_data(), result->typed_data(), executor);
    } else if (product == "input_gradient") {
      check_output("gradient of y", a.dimensions());
      check_kernel("kernel", b.dimensions());
      check_image("gradient of x", result->dimensions());
      FloatInputGradient(conv, a.typed_data(), b.typed_data(), result->typed_data(), executor);
    } else if (product == "kernel_gradient") {
      check_image("x", a.dimensions());
      check_output("gradient of y", b.dimensions());
      check_kernel("gradient of the kernel", result->dimensions());
      FloatKernelGradient(conv, a.typed_data(), b.typed_data(), result->typed_data(), executor);
    } else {
      Refuse("attribute product must be 'forward', 'input_gradient' or 'kernel_gradient', got '",
             product, "'");
    }
  });
}

}  // namespace
}  // namespace hetjax

HETJAX_EXPORT_HANDLER(hetjax_float_conv);

XLA_FFI_DEFINE_HANDLER_SYMBOL(hetjax_float_conv, hetjax::FloatConvHandler,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<hetjax::Floats>()
                                  .Arg<hetjax::Floats>()
                                  .Ret<hetjax::Floats>()
                                  .Attr<std::string_view>("product")
                                  .Attr<hetjax::Ints>("image")
                                  .Attr<hetjax::Ints>("kernel")
                                  .Attr<hetjax::Ints>("strides")
                                  .Attr<hetjax::Ints>("padding")
                                  .Attr<hetjax::Ints>("kernel_dilation"));
