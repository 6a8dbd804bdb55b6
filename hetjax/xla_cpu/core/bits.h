// Reading little-endian bit fields of packed rows and spreading small codes to bytes.
#ifndef HETJAX_XLA_CPU_CORE_BITS_H_
#define HETJAX_XLA_CPU_CORE_BITS_H_

#include <cstdint>
#include <cstring>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "hetjax's packed layouts are little endian; this machine is not"
#endif

namespace hetjax {

// `width` (0..32) bits of `data` from bit `offset` on. Reads no byte at or beyond `size`; the
// caller guarantees that the field itself lies below it.
inline uint32_t ReadBits(const uint8_t* data, int64_t size, int64_t offset, int width) {
  const int64_t byte = offset >> 3;
  uint64_t window = 0;
  if (byte + 8 <= size) {
    std::memcpy(&window, data + byte, 8);
  } else if (byte < size) {
    std::memcpy(&window, data + byte, static_cast<size_t>(size - byte));
  }
  const uint64_t mask = (uint64_t{1} << width) - 1;
  return static_cast<uint32_t>((window >> (offset & 7)) & mask);
}

// Four `level`-bit codes (level 2, 4 or 8), packed from the lowest bit on, as four bytes.
inline uint32_t SpreadCodes(uint32_t packed, int level) {
  if (level == 2) {
    packed = (packed | packed << 12) & 0x000f000fu;
    return (packed | packed << 6) & 0x03030303u;
  }
  if (level == 4) {
    packed = (packed | packed << 8) & 0x00ff00ffu;
    return (packed | packed << 4) & 0x0f0f0f0fu;
  }
  return packed;
}

inline uint32_t SumBytes(uint32_t bytes) {
  return (bytes & 0xff) + (bytes >> 8 & 0xff) + (bytes >> 16 & 0xff) + (bytes >> 24);
}

// Population count without the instruction, which baseline x86-64 lacks.
inline uint32_t CountBits(uint32_t x) {
  x = x - (x >> 1 & 0x55555555u);
  x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
  return ((x + (x >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24;
}

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_BITS_H_
