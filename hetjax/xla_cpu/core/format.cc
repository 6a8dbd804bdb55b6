#include "format.h"

#include <cstring>
#include <initializer_list>

namespace hetjax {
namespace {

// Position of output n < 16 among the 16-bit halves of a 256-bit vector such that interleaving two
// such vectors with unpacklo and unpackhi gives outputs 0..7 and 8..15 in order.
int32_t Half(int32_t n) { return (n & 3) | (n & 4) << 1 | (n & 8) >> 1; }

// Even bytes of a vector hold outputs 0..15 of its 32, odd bytes 16..31.
int32_t ByteLane(int32_t n) { return (n & ~31) + 2 * Half(n & 15) + (n >> 4 & 1); }

int32_t TableLane(int32_t level, int32_t n) {
  if (level <= 2) return ByteLane(n);
  return level == 4 ? (n & ~15) + Half(n & 15) : n;
}

// At 4 bits unpacklo and unpackhi of a vector's nibbles give the pairs of outputs 0..15 and 16..31.
int32_t DenseLane(int32_t level, int32_t n) {
  if (level != 4) return TableLane(level, n);
  const int32_t half = Half(n & 15);
  return (n & ~31) + (half & 7) + 2 * (half & 8) + (n >> 1 & 8);
}

int32_t QuadLane(int32_t level, int32_t n) { return level <= 2 ? ByteLane(n) : n; }

// At 2 bits even bytes of a vector's half hold outputs 0..15 of its 32, odd bytes 16..31.
int32_t VectorLane(int32_t level, int32_t n) {
  return level == 2 ? (n & ~31) + 2 * (n & 15) + (n >> 4 & 1) : n;
}

// At 4 bits unpacklo and unpackhi of a 512-bit vector's nibbles give the quadruples of outputs
// 0..15 and 16..31.
int32_t DenseVectorLane(int32_t level, int32_t n) {
  if (level != 4) return VectorLane(level, n);
  return (n & ~31) + 8 * (n >> 2 & 3) + (n & 3) + (n >> 2 & 4);
}

constexpr UnitKind kBits = {8, 2, 2, false, 2}, kPairs = {4, 2, 2, false, 2};
constexpr UnitKind kDenseBits = {8, 1, 2}, kDensePairs = {4, 1, 2}, kWide = {2, 4, 4, true};
constexpr Format kDenseTable = {
    "table", {kDenseBits, kDensePairs, {2, 1, 4}, kWide}, DenseLane, nullptr, true, kBlock, true};
constexpr Format kTable = {
    "table", {kBits, kPairs, {2, 2, 4}, kWide}, TableLane, &kDenseTable, false, kBlock, true};
constexpr Format kDenseQuads = {
    "table_quads", {kDenseBits, kDensePairs, {4, 2, 4}, kWide},
    TableLane,     nullptr, true, kBlock, true};
constexpr Format kQuads = {
    "table_quads", {kBits, kPairs, {4, 4, 4}, kWide},
    QuadLane,      &kDenseQuads, false, kBlock, true};
constexpr Format kDenseVector = {
    "vector",        {{32, 4, 4}, {3, 1, 1}, {4, 2, 4}, kWide},
    DenseVectorLane, nullptr, true, kWideBlock, true};
constexpr Format kVector = {
    "vector",   {{32, 4, 4}, {3, 1, 1}, {4, 4, 4}, kWide},
    VectorLane, &kDenseVector, false, kWideBlock, true};

int32_t SameLane(int32_t, int32_t n) { return n; }

constexpr Format kNeon = {"neon", {{8, 1, 1}, {2, 1, 1}, {4, 4, 4, true}, {1, 2, 2}}, SameLane,
                          nullptr, false, kBlock, false};

// Units are not read.
constexpr Format kMatrix = {"matrix", {},    SameLane, &kDenseVector,
                            false,    kMatrixBlock, true,     true};

}  // namespace

const Format& TableFormat() { return kTable; }
const Format& TableQuadsFormat() { return kQuads; }
const Format& VectorFormat() { return kVector; }
const Format& MatrixFormat() { return kMatrix; }
const Format& NeonFormat() { return kNeon; }

const Format* FindFormat(const char* name) {
  for (const Format* format : {&kTable, &kQuads, &kVector, &kMatrix, &kNeon}) {
    if (std::strcmp(name, format->name) == 0) return format;
  }
  return nullptr;
}

}  // namespace hetjax
