#include "format.h"

#include <cstring>
#include <initializer_list>

namespace hetjax {
namespace {

// Position of output n < 16 among the 16-bit halves of a 256-bit vector such that interleaving two
// such vectors with unpacklo and unpackhi gives outputs 0..7 and 8..15 in order.
int32_t Half(int32_t n) { return (n & 3) | (n & 4) << 1 | (n & 8) >> 1; }

int32_t NibbleLane(int32_t lane_bytes, int32_t n) {
  switch (lane_bytes) {
    // Even bytes of a vector hold outputs 0..15 of its 32, odd bytes 16..31.
    case 1: return (n & ~31) + 2 * Half(n & 15) + (n >> 4 & 1);
    case 2: return (n & ~15) + Half(n & 15);
    default: return n;
  }
}

// Byte b of word j of a 512-bit vector holds output 16 b + j.
int32_t VectorLane(int32_t lane_bytes, int32_t n) {
  return lane_bytes == 1 ? 4 * (n % 16) + n / 16 : n;
}

constexpr Format kNibble = {
    "nibble", {{4, 1, 1}, {2, 1, 1}, {2, 2, 4}, {2, 4, 4}}, NibbleLane};
constexpr Format kVector = {
    "vector", {{32, 4, 4}, {3, 1, 1}, {4, 4, 4}, {2, 4, 4}}, VectorLane};

}  // namespace

const Format& NibbleFormat() { return kNibble; }
const Format& VectorFormat() { return kVector; }

const Format* FindFormat(const char* name) {
  for (const Format* format : {&kNibble, &kVector}) {
    if (std::strcmp(name, format->name) == 0) return format;
  }
  return nullptr;
}

}  // namespace hetjax
