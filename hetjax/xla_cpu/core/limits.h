// What the instructions of the kernels can do at most.
#ifndef HETJAX_XLA_CPU_CORE_LIMITS_H_
#define HETJAX_XLA_CPU_CORE_LIMITS_H_

namespace hetjax {

// Multiply-accumulates a second of one thread with the instructions that an instruction set's
// kernels use for a level (1, 2, 4, 8; 32 is float32 by fused multiply-adds), on registers alone: the
// best of repeated runs within `seconds`. Throws std::invalid_argument where it cannot run.
double InstructionLimit(const char* isa, int level, double seconds);

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_LIMITS_H_
