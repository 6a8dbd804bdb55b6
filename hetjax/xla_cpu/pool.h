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
#include <thread>

#include "core/executor.h"
#include "xla/ffi/api/ffi.h"

namespace hetjax {

// One call's tasks.
class SharedTasks {
 public:
  SharedTasks(int64_t count, const std::function<void(int64_t)>* task) : count_(count), task_(task) {}

  // Runs tasks until none is left to claim.
  void Work() {
    int64_t i;
    while ((i = next_.fetch_add(1)) < count_) {
      // A claimed task keeps the caller waiting, so the task is alive here.
      try {
        (*task_)(i);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!failure_) failure_ = std::current_exception();
      }
      if (done_.fetch_add(1) + 1 == count_) {
        const std::lock_guard<std::mutex> lock(mutex_);
        all_done_.notify_all();
      }
    }
  }

  bool is_done() const { return done_.load() == count_; }

  // Returns when all have returned; throws what the first to fail has thrown.
  void Wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    all_done_.wait(lock, [this] { return is_done(); });
    if (failure_) std::rethrow_exception(failure_);
  }

 private:
  const int64_t count_;
  const std::function<void(int64_t)>* const task_;
  std::atomic<int64_t> next_{0};
  std::atomic<int64_t> done_{0};
  std::mutex mutex_;
  std::condition_variable all_done_;
  std::exception_ptr failure_;
};

// Waking a thread takes about as long as a small layer, and the next layer's tasks mostly come soon
// after the last one's. Helpers therefore look for more for a while before they go back to the pool.
class Lingering {
 public:
  static Lingering& Global() {
    static Lingering* const global = new Lingering;  // helpers may outlive static objects
    return *global;
  }

  // Offers tasks to helpers that linger; how many those were.
  int64_t Offer(const std::shared_ptr<SharedTasks>& tasks) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      latest_ = tasks;
    }
    // A helper that leaves takes itself off before it looks for the last time: it sees the new number
    // or is not counted here.
    number_.fetch_add(1);
    return helpers_.load();
  }

  // Works on what is offered until nothing was for a while.
  void Stay() {
    uint64_t seen = number_.load();
    helpers_.fetch_add(1);
    for (int look = 0; look < kLooks; ++look) {
      if (number_.load() != seen) {
        helpers_.fetch_sub(1);
        seen = Work();
        helpers_.fetch_add(1);
        look = 0;
      }
      // Other threads of the process may wait for this processor.
      std::this_thread::yield();
    }
    helpers_.fetch_sub(1);
    if (number_.load() != seen) Work();
  }

 private:
  // About 40 us where nothing else runs.
  static constexpr int kLooks = 100;

  // The number of what was offered last.
  uint64_t Work() {
    std::shared_ptr<SharedTasks> tasks;
    uint64_t seen;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      tasks = latest_;
      seen = number_.load();
    }
    tasks->Work();
    return seen;
  }

  std::atomic<uint64_t> number_{0};
  std::atomic<int64_t> helpers_{0};
  std::mutex mutex_;
  std::shared_ptr<SharedTasks> latest_;
};

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
    const auto tasks = std::make_shared<SharedTasks>(count, &task);
    for (int64_t i = Lingering::Global().Offer(tasks); i < helpers; ++i) {
      pool_.Schedule([tasks] {
        tasks->Work();
        Lingering::Global().Stay();
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
