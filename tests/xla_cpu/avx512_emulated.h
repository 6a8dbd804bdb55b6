// The AVX-512 intrinsics that core/kernels_avx512.cc uses, from SIMDe's portable versions.
// SIMDe's own aliases clash with the vector types of recent compilers, hence this short list.
#ifndef HETJAX_TESTS_XLA_CPU_AVX512_EMULATED_H_
#define HETJAX_TESTS_XLA_CPU_AVX512_EMULATED_H_

#include <simde/x86/avx512.h>

#define __m512i simde__m512i
#define _mm512_add_epi32 simde_mm512_add_epi32
#define _mm512_and_si512 simde_mm512_and_si512
#define _mm512_dpbusd_epi32 simde_mm512_dpbusd_epi32
#define _mm512_loadu_si512 simde_mm512_loadu_si512
#define _mm512_mullo_epi32 simde_mm512_mullo_epi32
#define _mm512_popcnt_epi32 simde_mm512_popcnt_epi32
#define _mm512_set1_epi32 simde_mm512_set1_epi32
#define _mm512_setzero_si512 simde_mm512_setzero_si512
#define _mm512_storeu_si512 simde_mm512_storeu_si512
#define _mm512_xor_si512 simde_mm512_xor_si512

#endif  // HETJAX_TESTS_XLA_CPU_AVX512_EMULATED_H_
