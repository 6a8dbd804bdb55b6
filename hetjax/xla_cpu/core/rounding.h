// Integer division upwards.
#ifndef HETJAX_XLA_CPU_CORE_ROUNDING_H_
#define HETJAX_XLA_CPU_CORE_ROUNDING_H_

#include <cstdint>

namespace hetjax {

constexpr int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t RoundUp(int64_t n, int64_t to) { return CeilDiv(n, to) * to; }

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_ROUNDING_H_
