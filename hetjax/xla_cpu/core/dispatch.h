// Instruction-set paths that can run here, and forcing one of them.
#ifndef HETJAX_XLA_CPU_CORE_DISPATCH_H_
#define HETJAX_XLA_CPU_CORE_DISPATCH_H_

#include <string>
#include <vector>

#include "kernels.h"

namespace hetjax {

// Slowest first; the scalar path is always there.
const std::vector<const Kernels*>& AvailableKernels();
// Their names, separated by commas.
const std::string& AvailableNames();
// Forces a path for the whole process; null or "" lifts it. Throws std::invalid_argument.
void ForceKernels(const char* name);
// "" if none is forced.
const char* ForcedName();

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_DISPATCH_H_
