// The core's executor on XLA's intra-op thread pool.
#ifndef HETJAX_XLA_CPU_POOL_H_
#define HETJAX_XLA_CPU_POOL_H_

#include <algorithm>
#include <functional>
#include <memory>

#include "core/executor.h"
#include "helpers.h"
#include "xla/ffi/api/ffi.h"

namespace hetjax {

// Threads claim tasks from a counter; the caller claims too. The caller waits only for tasks that
// some thread has already claimed and so is running: a helper that the pool never gets to start is
// not waited for. A handler that itself runs on a pool thread therefore cannot deadlock. Helpers
// that start late find nothing to claim; the state they look at is shared and outlives the call. No
// call is helped by more threads than its pool has, though they may be another pool's.
class PoolExecutor final : public Executor {
 public:
  explicit PoolExecutor(::xla::ffi::ThreadPool pool)
      : pool_(pool), threads_(std::max<int64_t>(1, pool.num_threads())) {}

  int64_t threads() const override { return threads_; }

  void Run(int64_t count, const std::function<void(int64_t)>& task) override {
    const int64_t helpers = std::min(threads_, count) - 1;
    if (helpers <= 0) return Executor::Run(count, task);
    const auto tasks = std::make_shared<SharedTasks>(count, &task);
    for (int64_t i = Staying().Offer(tasks, helpers); i < helpers; ++i) {
      pool_.Schedule([tasks] {
        tasks->Work();
        Staying().Stay();
      });
    }
    tasks->Work();
    // Helpers mostly end at the same time: sleeping and being woken would take longer.
    for (int i = 0; i < kSpins && !tasks->is_done(); ++i) Pause();
    tasks->Wait();
  }

 private:
  // About 50 us.
  static constexpr int kSpins = 2500;

  static Lingering& Staying() {
    static Lingering* const staying = new Lingering;  // helpers may outlive static objects
    return *staying;
  }

  static void Pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  ::xla::ffi::ThreadPool pool_;
  const int64_t threads_;
};

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_POOL_H_
