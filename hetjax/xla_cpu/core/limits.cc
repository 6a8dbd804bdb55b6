// What the instructions of the kernels can do at most: their inner products on registers alone,
// nothing loaded, no loop but this one.
#include "limits.h"

#include <chrono>
#include <cstring>

#include "dispatch.h"
#include "error.h"

namespace hetjax {
namespace {

struct Probe {
  const char* isa;
  int level;        // bits; 32 for float32
  int64_t products;  // of one iteration
  void (*run)(int64_t iterations);
};

#ifdef HETJAX_X86
// Ten accumulators, 0 to 9; 10 is scratch, 11 and 12 are operands.
#define HETJAX_TEN(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9)
#define HETJAX_CLOBBERS                                                                         \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
      "xmm11", "xmm12", "cc"
// Whatever the registers held before might be numbers that take longer.
#define HETJAX_ZERO(i) "vpxor %%xmm" #i ",%%xmm" #i ",%%xmm" #i "\n"
#define HETJAX_ZEROS HETJAX_TEN(HETJAX_ZERO) HETJAX_ZERO(10) HETJAX_ZERO(11) HETJAX_ZERO(12)
#define HETJAX_PROBE(name, step)                                                        \
  void name(int64_t n) {                                                                \
    __asm__ volatile(HETJAX_ZEROS ".p2align 6\n1:\n" HETJAX_TEN(step)                          \
                         "dec %0\njnz 1b\nvzeroupper\n" \
                     : "+r"(n)                                                          \
                     :                                                                  \
                     : HETJAX_CLOBBERS);                                                \
  }

#define HETJAX_TABLE_YMM(i) "vpshufb %%ymm11,%%ymm12,%%ymm10\nvpaddb %%ymm10,%%ymm" #i ",%%ymm" #i "\n"
#define HETJAX_PAIR_YMM(i) \
  "vpmaddubsw %%ymm11,%%ymm12,%%ymm10\nvpaddw %%ymm10,%%ymm" #i ",%%ymm" #i "\n"
#define HETJAX_WIDE_YMM(i) "vpmaddwd %%ymm11,%%ymm12,%%ymm10\nvpaddd %%ymm10,%%ymm" #i ",%%ymm" #i "\n"
#define HETJAX_QUAD_YMM(i) "%{vex%} vpdpbusd %%ymm11,%%ymm12,%%ymm" #i "\n"
#define HETJAX_FMA_YMM(i) "vfmadd231ps %%ymm11,%%ymm12,%%ymm" #i "\n"
#define HETJAX_TABLE_ZMM(i) "vpshufb %%zmm11,%%zmm12,%%zmm10\nvpaddb %%zmm10,%%zmm" #i ",%%zmm" #i "\n"
#define HETJAX_PAIR_ZMM(i) \
  "vpmaddubsw %%zmm11,%%zmm12,%%zmm10\nvpaddw %%zmm10,%%zmm" #i ",%%zmm" #i "\n"
#define HETJAX_WIDE_ZMM(i) "vpmaddwd %%zmm11,%%zmm12,%%zmm10\nvpaddd %%zmm10,%%zmm" #i ",%%zmm" #i "\n"
#define HETJAX_COUNT_ZMM(i)                                          \
  "vpxord %%zmm11,%%zmm12,%%zmm10\nvpopcntd %%zmm10,%%zmm10\nvpaddd " \
  "%%zmm10,%%zmm" #i ",%%zmm" #i "\n"
#define HETJAX_PERMUTE_ZMM(i) "vpermb %%zmm11,%%zmm12,%%zmm10\nvpaddb %%zmm10,%%zmm" #i ",%%zmm" #i "\n"
#define HETJAX_QUAD_ZMM(i) "vpdpbusd %%zmm11,%%zmm12,%%zmm" #i "\n"
#define HETJAX_WORDS_ZMM(i) "vpdpwssd %%zmm11,%%zmm12,%%zmm" #i "\n"
#define HETJAX_FMA_ZMM(i) "vfmadd231ps %%zmm11,%%zmm12,%%zmm" #i "\n"

HETJAX_PROBE(TableYmm, HETJAX_TABLE_YMM)
HETJAX_PROBE(PairYmm, HETJAX_PAIR_YMM)
HETJAX_PROBE(WideYmm, HETJAX_WIDE_YMM)
HETJAX_PROBE(QuadYmm, HETJAX_QUAD_YMM)
HETJAX_PROBE(FmaYmm, HETJAX_FMA_YMM)
HETJAX_PROBE(TableZmm, HETJAX_TABLE_ZMM)
HETJAX_PROBE(PairZmm, HETJAX_PAIR_ZMM)
HETJAX_PROBE(WideZmm, HETJAX_WIDE_ZMM)
HETJAX_PROBE(CountZmm, HETJAX_COUNT_ZMM)
HETJAX_PROBE(PermuteZmm, HETJAX_PERMUTE_ZMM)
HETJAX_PROBE(QuadZmm, HETJAX_QUAD_ZMM)
HETJAX_PROBE(WordsZmm, HETJAX_WORDS_ZMM)
HETJAX_PROBE(FmaZmm, HETJAX_FMA_ZMM)

// 16 x 64 codes times 64 x 16 weights; sums are tiles 0 to 3.
void TileProducts(int64_t n) {
  struct {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16};
  } configuration;
  __asm__ volatile(
      "ldtilecfg %1\ntilezero %%tmm0\ntilezero %%tmm1\ntilezero %%tmm2\ntilezero %%tmm3\n"
      "tilezero %%tmm4\ntilezero %%tmm5\n.p2align 6\n1:\n"
      "tdpbusd %%tmm5,%%tmm4,%%tmm0\ntdpbusd %%tmm5,%%tmm4,%%tmm1\n"
      "tdpbusd %%tmm5,%%tmm4,%%tmm2\ntdpbusd %%tmm5,%%tmm4,%%tmm3\n"
      "dec %0\njnz 1b\ntilerelease\n"
      : "+r"(n)
      : "m"(configuration)
      : "cc");
}
constexpr int64_t kTileProducts = 4 * 16 * 64 * 16;

constexpr Probe kProbes[] = {
    {"avx2", 1, 10 * 32 * 4, TableYmm},         {"avx2", 2, 10 * 32 * 2, TableYmm},
    {"avx2", 4, 10 * 32, PairYmm},              {"avx2", 8, 10 * 16, WideYmm},
    {"avx2", 32, 10 * 8, FmaYmm},               {"avx2_vnni", 1, 10 * 32 * 4, TableYmm},
    {"avx2_vnni", 2, 10 * 32 * 2, TableYmm},    {"avx2_vnni", 4, 10 * 32, QuadYmm},
    {"avx2_vnni", 8, 10 * 16, WideYmm},         {"avx2_vnni", 32, 10 * 8, FmaYmm},
    {"avx512", 1, 10 * 64 * 4, TableZmm},       {"avx512", 2, 10 * 64 * 2, TableZmm},
    {"avx512", 4, 10 * 64, PairZmm},            {"avx512", 8, 10 * 32, WideZmm},
    {"avx512", 32, 10 * 16, FmaZmm},            {"avx512_vnni", 1, 10 * 16 * 32, CountZmm},
    {"avx512_vnni", 2, 10 * 64 * 3, PermuteZmm}, {"avx512_vnni", 4, 10 * 64, QuadZmm},
    {"avx512_vnni", 8, 10 * 32, WordsZmm},      {"avx512_vnni", 32, 10 * 16, FmaZmm},
    {"amx", 1, kTileProducts, TileProducts},    {"amx", 2, kTileProducts, TileProducts},
    {"amx", 4, kTileProducts, TileProducts},    {"amx", 8, kTileProducts, TileProducts},
    {"amx", 32, 10 * 16, FmaZmm},
};
#else
constexpr Probe kProbes[] = {{"", 0, 0, nullptr}};
#endif

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

double InstructionLimit(const char* isa, int level, double seconds) {
  const Probe* probe = nullptr;
  for (const Probe& each : kProbes) {
    if (std::strcmp(each.isa, isa) == 0 && each.level == level) probe = &each;
  }
  bool can_run = false;
  for (const Kernels* kernels : AvailableKernels()) {
    can_run = can_run || std::strcmp(kernels->name, isa) == 0;
  }
  if (probe == nullptr) Refuse("there is no limit of level ", level, " for '", isa, "'");
  if (!(seconds >= 0 && seconds <= 3600)) Refuse("seconds must be 0 .. 3600, got ", seconds);
  if (!can_run) Refuse("instruction set '", isa, "' cannot run here");
  constexpr int64_t kIterations = 20000;
  double best = 0;
  const double end = Seconds() + seconds;
  do {
    const double start = Seconds();
    probe->run(kIterations);
    const double rate = static_cast<double>(kIterations * probe->products) / (Seconds() - start);
    best = rate > best ? rate : best;
  } while (Seconds() < end);
  return best;
}

}  // namespace hetjax
