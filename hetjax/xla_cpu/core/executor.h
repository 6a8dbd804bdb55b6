// How the core runs independent pieces of work; the FFI layer supplies XLA's thread pool.
#ifndef HETJAX_XLA_CPU_CORE_EXECUTOR_H_
#define HETJAX_XLA_CPU_CORE_EXECUTOR_H_

#include <cfenv>
#include <cstdint>
#include <functional>

namespace hetjax {

class Executor {
 public:
  virtual ~Executor() = default;
  // Threads that may work at the same time, the caller included.
  virtual int64_t threads() const { return 1; }
  // Products of a convolution below which it is not shared out, given how many are worth it.
  virtual int64_t least_products(int64_t worth) const { return worth; }
  // Calls task(0) .. task(count - 1) in any order, each once, and returns when all have returned.
  virtual void Run(int64_t count, const std::function<void(int64_t)>& task) {
    for (int64_t i = 0; i < count; ++i) task(i);
  }
};

// Default rounding and denormals while alive: XLA's threads may flush denormals to zero, which
// would make a code depend on the thread that computes it.
class ExactFloats {
 public:
  ExactFloats() {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~ExactFloats() { std::fesetenv(&saved_); }
  ExactFloats(const ExactFloats&) = delete;
  ExactFloats& operator=(const ExactFloats&) = delete;

 private:
  std::fenv_t saved_;
};

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_EXECUTOR_H_
