// What the XLA FFI handlers share: checks of buffers and attributes, and what attributes describe.
#ifndef HETJAX_XLA_CPU_FFI_COMMON_H_
#define HETJAX_XLA_CPU_FFI_COMMON_H_

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/ops.h"
#include "memo.h"
#include "xla/ffi/api/ffi.h"

// The library hides its symbols but for the C interface and these, which Python looks up by name.
#define HETJAX_EXPORT_HANDLER(name)                                      \
  extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* name( \
      XLA_FFI_CallFrame* call_frame)

namespace hetjax {

namespace ffi = ::xla::ffi;

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

inline std::string Text(ffi::AnyBuffer::Dimensions shape) {
  std::string text = "(";
  for (const int64_t extent : shape) {
    text += (text.size() == 1 ? "" : ", ") + std::to_string(extent);
  }
  return text + ")";
}

// Checks that `shape` has the extents `expected`.
inline void CheckShape(const char* name, ffi::AnyBuffer::Dimensions shape,
                       std::initializer_list<int64_t> expected) {
  if (shape.size() == expected.size() && std::equal(shape.begin(), shape.end(), expected.begin())) {
    return;
  }
  const std::vector<int64_t> copy(expected);
  Refuse(name, " must have shape ",
         Text(ffi::AnyBuffer::Dimensions(copy.data(), copy.size())), ", got ", Text(shape));
}

inline void CheckCount(const char* name, Ints values, size_t count) {
  CheckEqual((std::string("values of attribute ") + name).c_str(), static_cast<int64_t>(count),
             static_cast<int64_t>(values.size()));
}

// The format that the attribute names; it must be what the instruction set in use reads.
inline const Format& CheckedFormat(std::string_view name) {
  const Format* format = FindFormat(std::string(name).c_str());
  if (format == nullptr) Refuse("attribute format must name a weight format, got '", name, "'");
  return *format;
}

inline const Kernels& KernelsFor(const Format& format) {
  const Kernels& kernels = ActiveKernels();
  if (kernels.format().name != format.name) {
    Refuse("weights were prepared in format '", format.name, "', instruction set '", kernels.name,
           "' reads '", kernels.format().name, "': prepare them again, and trace again");
  }
  return kernels;
}

// `kernel` holds height, width, output channels.
inline std::shared_ptr<const Layer> LayerOf(Ints bits, Ints levels, int32_t groups, Ints kernel,
                                            const Format& format) {
  CheckCount("kernel", kernel, 3);
  static Memo<Layer> memo;
  // Formats are told apart by address: some have units in common.
  const uint64_t address = reinterpret_cast<uintptr_t>(&format);
  const int32_t rest[] = {groups, static_cast<int32_t>(address),
                          static_cast<int32_t>(address >> 32)};
  return memo.Get({bits, levels, kernel, Ints(rest, 3)}, [&] {
    return std::make_shared<Layer>(
        LayerSpec{bits.begin(), static_cast<int64_t>(bits.size()), levels.begin(),
                  static_cast<int64_t>(levels.size()), groups, kernel[0], kernel[1], kernel[2]},
        format);
  });
}

inline std::shared_ptr<const Quantizer> QuantizerOf(Ints bits, Ints levels, bool is_signed) {
  static Memo<Quantizer> memo;
  const int32_t rest[] = {is_signed};
  return memo.Get({bits, levels, Ints(rest, 1)}, [&] {
    return std::make_shared<Quantizer>(
        RecordLayout(bits.begin(), static_cast<int64_t>(bits.size()), levels.begin(),
                     static_cast<int64_t>(levels.size())),
        is_signed);
  });
}

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_FFI_COMMON_H_
