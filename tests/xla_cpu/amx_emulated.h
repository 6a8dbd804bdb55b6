// The AMX intrinsics that the kernels use, as loops. A thread's tiles are as its configuration says.
#ifndef HETJAX_TESTS_XLA_CPU_AMX_EMULATED_H_
#define HETJAX_TESTS_XLA_CPU_AMX_EMULATED_H_

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace emulated {

struct Tiles {
  bool is_configured = false;
  uint16_t row_bytes[8];
  uint8_t rows[8];
  uint8_t data[8][16][64];
};

inline Tiles& ThreadTiles() {
  static thread_local Tiles tiles;
  return tiles;
}

// The processor refuses tiles without a configuration.
inline Tiles& Configured() {
  Tiles& tiles = ThreadTiles();
  if (!tiles.is_configured) std::abort();
  return tiles;
}

inline void TileConfigure(const void* configuration) {
  uint8_t bytes[64];
  std::memcpy(bytes, configuration, sizeof(bytes));
  Tiles& tiles = ThreadTiles();
  tiles.is_configured = bytes[0] == 1;
  for (int t = 0; t < 8; ++t) {
    std::memcpy(&tiles.row_bytes[t], bytes + 16 + 2 * t, 2);
    tiles.rows[t] = bytes[48 + t];
    if (tiles.row_bytes[t] > 64 || tiles.rows[t] > 16) std::abort();
  }
  std::memset(tiles.data, 0, sizeof(tiles.data));
}

inline void TileLoad(int t, const void* from, size_t stride) {
  Tiles& tiles = Configured();
  for (int r = 0; r < tiles.rows[t]; ++r) {
    std::memcpy(tiles.data[t][r], static_cast<const uint8_t*>(from) + static_cast<size_t>(r) * stride,
                tiles.row_bytes[t]);
  }
}

inline void TileStore(int t, void* to, size_t stride) {
  Tiles& tiles = Configured();
  for (int r = 0; r < tiles.rows[t]; ++r) {
    std::memcpy(static_cast<uint8_t*>(to) + static_cast<size_t>(r) * stride, tiles.data[t][r],
                tiles.row_bytes[t]);
  }
}

inline void TileMultiply(int sums, int a, int b) {
  Tiles& tiles = Configured();
  for (int m = 0; m < tiles.rows[sums]; ++m) {
    for (int n = 0; n < tiles.row_bytes[sums] / 4; ++n) {
      uint32_t sum;
      std::memcpy(&sum, tiles.data[sums][m] + 4 * n, 4);
      for (int k = 0; k < tiles.row_bytes[a] / 4; ++k) {
        for (int i = 0; i < 4; ++i) {
          sum += static_cast<uint32_t>(tiles.data[a][m][4 * k + i] *
                                       static_cast<int8_t>(tiles.data[b][k][4 * n + i]));
        }
      }
      std::memcpy(tiles.data[sums][m] + 4 * n, &sum, 4);
    }
  }
}

}  // namespace emulated

// Compilers have some of these as macros.
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbusd

#define _tile_loadconfig emulated::TileConfigure
#define _tile_release() (void)(emulated::ThreadTiles().is_configured = false)
#define _tile_zero(t) \
  std::memset(emulated::Configured().data[t], 0, sizeof(emulated::Configured().data[t]))
#define _tile_loadd emulated::TileLoad
#define _tile_stored emulated::TileStore
#define _tile_dpbusd emulated::TileMultiply

#endif  // HETJAX_TESTS_XLA_CPU_AMX_EMULATED_H_
