// The core's executor on XLA's intra-op thread pool.
#ifndef HETJAX_XLA_CPU_POOL_H_
#define HETJAX_XLA_CPU_POOL_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>

#include "core/executor.h"
#include "xla/ffi/api/ffi.h"

namespace hetjax {

// Threads claim tasks from a counter; the caller claims too. The caller waits only for tasks that
// some thread has already claimed and so is running: a helper that the pool never gets to start is
// not waited for. A handler that itself runs on a pool thread therefore cannot deadlock, and the
// pool's size bounds the threads at work. Helpers that start late find nothing to claim; the state
// they look at is shared and outlives the call.
class PoolExecutor final : public Executor {
 public:
  explicit PoolExecutor(::xla::ffi::ThreadPool pool)
      : pool_(pool), threads_(std::max<int64_t>(1, pool.num_threads())) {}

  int64_t threads() const override { return threads_; }

  void Run(int64_t count, const std::function<void(int64_t)>& task) override {
    const int64_t helpers = std::min(threads_, count) - 1;
    if (helpers <= 0) return Executor::Run(count, task);
    auto state = std::make_shared<State>(count, &task);
    for (int64_t i = 0; i < helpers; ++i) {
      pool_.Schedule([state] { state->Work(); });
    }
    state->Work();
    // Helpers mostly end at the same time: sleeping and being woken would take longer.
    for (int i = 0; i < kSpins && state->done.load() != count; ++i) Pause();
    std::unique_lock<std::mutex> lock(state->mutex);
    state->all_done.wait(lock, [&] { return state->done.load() == count; });
    if (state->failure) std::rethrow_exception(state->failure);
  }

 private:
  // About 50 us.
  static constexpr int kSpins = 2500;

  static void Pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  struct State {
    State(int64_t count, const std::function<void(int64_t)>* task) : count(count), task(task) {}

    void Work() {
      int64_t i;
      while ((i = next.fetch_add(1)) < count) {
        // A claimed task keeps the caller waiting, so `task` is alive here.
        try {
          (*task)(i);
        } catch (...) {
          const std::lock_guard<std::mutex> lock(mutex);
          if (!failure) failure = std::current_exception();
        }
        if (done.fetch_add(1) + 1 == count) {
          const std::lock_guard<std::mutex> lock(mutex);
          all_done.notify_all();
        }
      }
    }

    const int64_t count;
    const std::function<void(int64_t)>* const task;
    std::atomic<int64_t> next{0};
    std::atomic<int64_t> done{0};
    std::mutex mutex;
    std::condition_variable all_done;
    std::exception_ptr failure;
  };

  ::xla::ffi::ThreadPool pool_;
  const int64_t threads_;
};

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_POOL_H_
