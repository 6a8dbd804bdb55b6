// Refusals of arguments: std::invalid_argument with names and numbers.
#ifndef HETJAX_XLA_CPU_CORE_ERROR_H_
#define HETJAX_XLA_CPU_CORE_ERROR_H_

#include <cstdint>
#include <limits>
#include <sstream>
#include <stdexcept>

namespace hetjax {

template <typename... Parts>
[[noreturn]] void Refuse(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw std::invalid_argument(text.str());
}

inline void CheckEqual(const char* name, int64_t expected, int64_t got) {
  if (expected != got) Refuse(name, " must be ", expected, ", got ", got);
}

inline void CheckRange(const char* name, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high) {
    Refuse(name, " must be ", low, " .. ", high, ", got ", value);
  }
}

// Every single extent fits 31 bits, so sums and products of two of them fit int64.
constexpr int64_t kMaxExtent = std::numeric_limits<int32_t>::max();

// Product of two non-negative sizes; refuses what no buffer can hold.
inline int64_t CheckedProduct(const char* name, int64_t a, int64_t b) {
  constexpr int64_t kMaxBytes = int64_t{1} << 46;
  if (b != 0 && a > kMaxBytes / b) Refuse(name, " is too large: ", a, " x ", b);
  return a * b;
}

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_ERROR_H_
