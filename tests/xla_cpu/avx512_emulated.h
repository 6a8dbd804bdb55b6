// The AVX-512 and AVX-VNNI intrinsics that the kernels use, from SIMDe's portable versions or,
// where SIMDe has none, from loops. SIMDe's own aliases clash with the vector types of recent
// compilers, hence this list. AVX2 itself is real.
#ifndef HETJAX_TESTS_XLA_CPU_AVX512_EMULATED_H_
#define HETJAX_TESTS_XLA_CPU_AVX512_EMULATED_H_

#include <immintrin.h>
#include <simde/x86/avx512.h>

#include <cmath>
#include <cstring>

namespace emulated {

inline simde__m512i MaskzLoadBytes(simde__mmask64 mask, const void* p) {
  simde__m512i_private to = {};
  for (int i = 0; i < 64; ++i) {
    if (mask >> i & 1) to.u8[i] = static_cast<const uint8_t*>(p)[i];
  }
  return simde__m512i_from_private(to);
}

inline simde__m512 MaskzLoadFloats(simde__mmask16 mask, const float* p) {
  simde__m512_private to = {};
  for (int i = 0; i < 16; ++i) {
    if (mask >> i & 1) to.f32[i] = p[i];
  }
  return simde__m512_from_private(to);
}

inline simde__m512i MaskzLoadInts(simde__mmask16 mask, const void* p) {
  simde__m512i_private to = {};
  for (int i = 0; i < 16; ++i) {
    if (mask >> i & 1) to.u32[i] = static_cast<const uint32_t*>(p)[i];
  }
  return simde__m512i_from_private(to);
}

inline simde__m512i WidenBytes(__m256i x) {
  const simde__m256i_private from = simde__m256i_to_private(x);
  simde__m512i_private to;
  for (int i = 0; i < 32; ++i) to.u16[i] = from.u8[i];
  return simde__m512i_from_private(to);
}

inline simde__m512i WidenWords(__m256i x) {
  const simde__m256i_private from = simde__m256i_to_private(x);
  simde__m512i_private to;
  for (int i = 0; i < 16; ++i) to.u32[i] = from.u16[i];
  return simde__m512i_from_private(to);
}

inline simde__m512i WidenSignedWords(__m256i x) {
  const simde__m256i_private from = simde__m256i_to_private(x);
  simde__m512i_private to;
  for (int i = 0; i < 16; ++i) to.i32[i] = from.i16[i];
  return simde__m512i_from_private(to);
}

template <int kHalf>
__m256i Half(simde__m512i x) {
  return simde__m512i_to_private(x).m256i[kHalf];
}

inline simde__m512i WithZeros(__m256i x) {
  simde__m512i_private to = {};
  to.m256i[0] = x;
  return simde__m512i_from_private(to);
}

inline __m128i LowBytes(simde__m512i x) {
  const simde__m512i_private from = simde__m512i_to_private(x);
  simde__m128i_private to;
  for (int i = 0; i < 16; ++i) to.u8[i] = from.u8[4 * i];
  return simde__m128i_from_private(to);
}

inline simde__m512 ToFloats(simde__m512i x) {
  const simde__m512i_private from = simde__m512i_to_private(x);
  simde__m512_private to;
  for (int i = 0; i < 16; ++i) to.f32[i] = static_cast<float>(from.i32[i]);
  return simde__m512_from_private(to);
}

inline simde__m512i Truncate(simde__m512 x) {
  const simde__m512_private from = simde__m512_to_private(x);
  simde__m512i_private to;
  for (int i = 0; i < 16; ++i) to.i32[i] = static_cast<int32_t>(from.f32[i]);
  return simde__m512i_from_private(to);
}

// SIMDe's shifts by 64.
inline simde__m512i MultiShift(simde__m512i shifts, simde__m512i x) {
  const simde__m512i_private by = simde__m512i_to_private(shifts);
  const simde__m512i_private from = simde__m512i_to_private(x);
  simde__m512i_private to;
  for (int i = 0; i < 64; ++i) {
    const int shift = by.u8[i] & 63;
    const uint64_t word = from.u64[i / 8];
    to.u8[i] = static_cast<uint8_t>(shift == 0 ? word : word >> shift | word << (64 - shift));
  }
  return simde__m512i_from_private(to);
}

template <int kMode>
simde__m512i Round(simde__m512 x) {
  static_assert(kMode == (_MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC), "the only one in use");
  simde__m512_private from = simde__m512_to_private(x);
  for (int i = 0; i < 16; ++i) from.f32[i] = std::floor(from.f32[i]);
  return Truncate(simde__m512_from_private(from));
}

inline __m256i LowBytesOfHalves(simde__m512i x) {
  const simde__m512i_private from = simde__m512i_to_private(x);
  simde__m256i_private to;
  for (int i = 0; i < 32; ++i) to.u8[i] = static_cast<uint8_t>(from.u16[i]);
  return simde__m256i_from_private(to);
}

inline int32_t SumInts(simde__m512i x) {
  const simde__m512i_private from = simde__m512i_to_private(x);
  uint32_t sum = 0;
  for (int i = 0; i < 16; ++i) sum += from.u32[i];
  return static_cast<int32_t>(sum);
}

// The elements that the mask has, of kBytes each.
template <int kBytes, typename Vector>
void MaskStore(void* to, uint64_t mask, Vector x) {
  uint8_t bytes[sizeof(Vector)];
  std::memcpy(bytes, &x, sizeof(bytes));
  for (size_t i = 0; i < sizeof(Vector) / kBytes; ++i) {
    if (mask >> i & 1) std::memcpy(static_cast<uint8_t*>(to) + kBytes * i, bytes + kBytes * i, kBytes);
  }
}

}  // namespace emulated

// Compilers have some of these as macros.
#undef _mm512_cmp_ps_mask
#undef _mm512_cvt_roundps_epi32
#undef _mm512_extracti64x4_epi64
#undef _mm512_inserti64x4
#undef _mm512_setr_epi64
#undef _mm512_shuffle_i64x2

#define __m512 simde__m512
#define __m512i simde__m512i
#define _mm256_dpbusd_avx_epi32 simde_mm256_dpbusd_epi32
#define _mm512_abs_ps simde_mm512_abs_ps
#define _mm512_add_epi16 simde_mm512_add_epi16
#define _mm512_add_epi32 simde_mm512_add_epi32
#define _mm512_add_epi8 simde_mm512_add_epi8
#define _mm512_add_ps simde_mm512_add_ps
#define _mm512_and_si512 simde_mm512_and_si512
#define _mm512_avg_epu16 simde_mm512_avg_epu16
#define _mm512_broadcast_i32x4 simde_mm512_broadcast_i32x4
#define _mm512_broadcast_i64x4 simde_mm512_broadcast_i64x4
#define _mm512_castsi512_si256 simde_mm512_castsi512_si256
#define _mm512_cmp_ps_mask simde_mm512_cmp_ps_mask
#define _mm512_cvt_roundps_epi32(x, mode) emulated::Round<(mode)>(x)
#define _mm512_cvtepi16_epi32 emulated::WidenSignedWords
#define _mm512_cvtepi16_epi8 emulated::LowBytesOfHalves
#define _mm512_cvtepi32_epi8 emulated::LowBytes
#define _mm512_cvtepi32_ps emulated::ToFloats
#define _mm512_cvtepu16_epi32 emulated::WidenWords
#define _mm512_cvtepu8_epi16 emulated::WidenBytes
#define _mm512_cvttps_epi32 emulated::Truncate
#define _mm512_dpbusd_epi32 simde_mm512_dpbusd_epi32
#define _mm512_dpwssd_epi32 simde_mm512_dpwssd_epi32
#define _mm512_extracti64x4_epi64(x, half) emulated::Half<(half)>(x)
#define _mm512_fmadd_ps simde_mm512_fmadd_ps
#define _mm512_inserti64x4 simde_mm512_inserti64x4
#define _mm512_loadu_ps simde_mm512_loadu_ps
#define _mm512_loadu_si512 simde_mm512_loadu_si512
#define _mm512_madd_epi16 simde_mm512_madd_epi16
#define _mm512_maddubs_epi16 simde_mm512_maddubs_epi16
#define _mm512_mask_blend_epi8 simde_mm512_mask_blend_epi8
#define _mm512_mask_permutexvar_epi8 simde_mm512_mask_permutexvar_epi8
#define _mm512_mask_storeu_epi32 emulated::MaskStore<4>
#define _mm512_mask_storeu_epi8 emulated::MaskStore<1>
#define _mm512_mask_storeu_ps emulated::MaskStore<4>
#define _mm512_maskz_loadu_epi32 emulated::MaskzLoadInts
#define _mm512_maskz_loadu_epi8 emulated::MaskzLoadBytes
#define _mm512_maskz_loadu_ps emulated::MaskzLoadFloats
#define _mm512_maskz_mov_ps simde_mm512_maskz_mov_ps
#define _mm512_maskz_permutexvar_epi8 simde_mm512_maskz_permutexvar_epi8
#define _mm512_max_ps simde_mm512_max_ps
#define _mm512_min_ps simde_mm512_min_ps
#define _mm512_mul_ps simde_mm512_mul_ps
#define _mm512_mullo_epi32 simde_mm512_mullo_epi32
#define _mm512_multishift_epi64_epi8 emulated::MultiShift
#define _mm512_or_si512 simde_mm512_or_si512
#define _mm512_packus_epi32 simde_mm512_packus_epi32
#define _mm512_permutexvar_epi64 simde_mm512_permutexvar_epi64
#define _mm512_permutexvar_epi8 simde_mm512_permutexvar_epi8
#define _mm512_popcnt_epi32 simde_mm512_popcnt_epi32
#define _mm512_reduce_add_epi32 emulated::SumInts
#define _mm512_set1_epi32 simde_mm512_set1_epi32
#define _mm512_set1_epi8 simde_mm512_set1_epi8
#define _mm512_set1_ps simde_mm512_set1_ps
#define _mm512_set_epi32 simde_mm512_set_epi32
#define _mm512_setr_epi64 simde_mm512_setr_epi64
#define _mm512_setzero_si512 simde_mm512_setzero_si512
#define _mm512_shuffle_epi8 simde_mm512_shuffle_epi8
#define _mm512_shuffle_i64x2 simde_mm512_shuffle_i64x2
#define _mm512_sll_epi16 simde_mm512_sll_epi16
#define _mm512_sll_epi32 simde_mm512_sll_epi32
#define _mm512_slli_epi16 simde_mm512_slli_epi16
#define _mm512_srli_epi16 simde_mm512_srli_epi16
#define _mm512_srli_epi32 simde_mm512_srli_epi32
#define _mm512_srlv_epi32 simde_mm512_srlv_epi32
#define _mm512_storeu_ps simde_mm512_storeu_ps
#define _mm512_storeu_si512 simde_mm512_storeu_si512
#define _mm512_sub_epi16 simde_mm512_sub_epi16
#define _mm512_sub_epi8 simde_mm512_sub_epi8
#define _mm512_test_epi8_mask simde_mm512_test_epi8_mask
#define _mm512_unpackhi_epi16 simde_mm512_unpackhi_epi16
#define _mm512_unpackhi_epi8 simde_mm512_unpackhi_epi8
#define _mm512_unpacklo_epi16 simde_mm512_unpacklo_epi16
#define _mm512_unpacklo_epi8 simde_mm512_unpacklo_epi8
#define _mm512_xor_si512 simde_mm512_xor_si512
#define _mm512_zextsi256_si512 emulated::WithZeros
#define _mm_mask_storeu_epi8 emulated::MaskStore<1>

#endif  // HETJAX_TESTS_XLA_CPU_AVX512_EMULATED_H_
