// Which kernels run: the best the machine has, or what the environment or the caller forces.
#include "dispatch.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

#ifdef HETJAX_X86
#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif
#elif defined(HETJAX_ARM64) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "error.h"
#include "float_kernels.h"

namespace hetjax {
namespace {

#ifdef HETJAX_X86
// The compiler's builtins also ask the operating system whether it saves the registers.
bool HasAvx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

// Emulated instructions, in a build for tests, need AVX2 only.
#ifdef HETJAX_EMULATE_AVX512
constexpr bool kEmulated = true;
#else
constexpr bool kEmulated = false;
#endif

// Not all compilers' builtins know this one.
bool HasAvxVnni() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return HasAvx2() && (kEmulated || (__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 &&
                                     (eax >> 4 & 1) != 0));
}

bool HasAvx512() {
  return HasAvx2() &&
         (kEmulated || (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")));
}

bool HasAvx512Vnni() {
  return HasAvx512() && (kEmulated || (__builtin_cpu_supports("avx512vbmi") &&
                                       __builtin_cpu_supports("avx512vnni") &&
                                       __builtin_cpu_supports("avx512vpopcntdq")));
}

#ifdef HETJAX_AMX
// Whether the processor multiplies matrices of bytes and the system saves their registers, for which it
// wants to be asked once.
bool HasAmx() {
  if (!HasAvx512Vnni()) return false;
  if (kEmulated) return true;
#if defined(__linux__) && defined(SYS_arch_prctl)
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) return false;
  constexpr unsigned kTiles = 1u << 24, kBytes = 1u << 25;
  if ((edx & kTiles) == 0 || (edx & kBytes) == 0) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}
#endif
#endif

#ifdef HETJAX_ARM64
// Dot products of bytes; all of Apple's have them.
bool HasDotProducts() {
#ifdef __linux__
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  return true;
#endif
}
#endif

std::atomic<const Kernels*> forced{nullptr};

const Kernels* Find(const char* name) {
  for (const Kernels* kernels : AvailableKernels()) {
    if (std::strcmp(kernels->name, name) == 0) return kernels;
  }
  return nullptr;
}

[[noreturn]] void RefuseIsa(const char* what, const char* name) {
  Refuse(what, " '", name, "' cannot run here; available: ", AvailableNames());
}

}  // namespace

const std::vector<const Kernels*>& AvailableKernels() {
  static const std::vector<const Kernels*> available = [] {
    std::vector<const Kernels*> found = {ScalarKernels()};
#ifdef HETJAX_X86
    if (HasAvx2()) found.push_back(Avx2Kernels());
    if (HasAvxVnni()) found.push_back(Avx2VnniKernels());
    if (HasAvx512()) found.push_back(Avx512Kernels());
    if (HasAvx512Vnni()) found.push_back(Avx512VnniKernels());
#ifdef HETJAX_AMX
    if (HasAmx()) found.push_back(AmxKernels());
#endif
#endif
#ifdef HETJAX_ARM64
    if (HasDotProducts()) found.push_back(NeonKernels());
#endif
    return found;
  }();
  return available;
}

const std::string& AvailableNames() {
  static const std::string names = [] {
    std::string text;
    for (const Kernels* kernels : AvailableKernels()) {
      text += (text.empty() ? "" : ",") + std::string(kernels->name);
    }
    return text;
  }();
  return names;
}

void ForceKernels(const char* name) {
  if (name == nullptr || *name == '\0') {
    forced.store(nullptr);
    return;
  }
  const Kernels* kernels = Find(name);
  if (kernels == nullptr) RefuseIsa("instruction set", name);
  forced.store(kernels);
}

const char* ForcedName() {
  const Kernels* kernels = forced.load();
  return kernels == nullptr ? "" : kernels->name;
}

const Kernels& ActiveKernels() {
  if (const Kernels* kernels = forced.load()) return *kernels;
  static const std::string from_environment = [] {
    const char* name = std::getenv("HETJAX_CPU_ISA");
    return std::string(name == nullptr ? "" : name);
  }();
  if (from_environment.empty()) {
#ifdef HETJAX_EMULATE_AVX512
    // Emulated instructions are for tests that ask for them by name.
    return HasAvx2() ? *Avx2Kernels() : *ScalarKernels();
#else
    return *AvailableKernels().back();
#endif
  }
  const Kernels* kernels = Find(from_environment.c_str());
  if (kernels == nullptr) RefuseIsa("HETJAX_CPU_ISA", from_environment.c_str());
  return *kernels;
}

const FloatKernels& ActiveFloatKernels() {
  const Kernels& kernels = ActiveKernels();
#ifdef HETJAX_X86
  if (&kernels == ScalarKernels()) return *GenericFloatKernels();
#ifndef HETJAX_EMULATE_AVX512
  const bool is_narrow = &kernels == Avx2Kernels() || &kernels == Avx2VnniKernels();
  if (!is_narrow) return *Avx512FloatKernels();
#endif
  return *Avx2FloatKernels();
#else
  (void)kernels;  // read for its check of a forced instruction set
  return *GenericFloatKernels();
#endif
}

}  // namespace hetjax
