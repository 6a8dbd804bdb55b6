// Which kernels run: the best the machine has, or what the environment or the caller forces.
#include "dispatch.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "error.h"

namespace hetjax {
namespace {

#ifdef HETJAX_X86
// The compiler's builtins also ask the operating system whether it saves the registers.
bool HasAvx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

bool HasAvx512() {
#ifdef HETJAX_EMULATE_AVX512
  return true;
#else
  __builtin_cpu_init();
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vpopcntdq");
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
#ifndef HETJAX_NO_AVX512
    if (HasAvx512()) found.push_back(Avx512Kernels());
#endif
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
    return *AvailableKernels()[AvailableKernels().size() - 2];
#else
    return *AvailableKernels().back();
#endif
  }
  const Kernels* kernels = Find(from_environment.c_str());
  if (kernels == nullptr) RefuseIsa("HETJAX_CPU_ISA", from_environment.c_str());
  return *kernels;
}

}  // namespace hetjax
