// Tasks that threads share, and threads that stay for the next ones.
#ifndef HETJAX_XLA_CPU_HELPERS_H_
#define HETJAX_XLA_CPU_HELPERS_H_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace hetjax {

// One call's tasks.
class SharedTasks {
 public:
  SharedTasks(int64_t count, const std::function<void(int64_t)>* task)
      : count_(count), task_(task) {}

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
// after the last one's. Helpers therefore stay and look for more before they go back to their pool,
// but not for long: the pool may have other work.
//
// There are as many helpers as free_ ones and offers together. Whoever offers takes free helpers,
// so that none is promised twice; a helper leaves only as a free one, so that every offer is taken.
class Lingering {
 public:
  using Clock = std::chrono::steady_clock;

  // Offers tasks to free helpers, at most so many; how many that were.
  int64_t Offer(const std::shared_ptr<SharedTasks>& tasks, int64_t wanted) {
    if (free_.load() == 0) return 0;
    const std::lock_guard<std::mutex> lock(mutex_);
    const int64_t taken = std::min(free_.load(), wanted);
    offers_.insert(offers_.end(), static_cast<size_t>(taken), tasks);
    free_.fetch_sub(taken);
    waiting_.fetch_add(taken);
    return taken;
  }

  // Works on what is offered until nothing was for a while, or it has been here for long.
  void Stay(Clock::duration idle = std::chrono::microseconds(50),
            Clock::duration longest = std::chrono::microseconds(1000)) {
    free_.fetch_add(1);
    const Clock::time_point end = Clock::now() + longest;
    Clock::time_point until = std::min(end, Clock::now() + idle);
    for (;;) {
      if (waiting_.load() > 0) {
        if (const auto tasks = Take()) {
          tasks->Work();
          free_.fetch_add(1);
          until = std::min(end, Clock::now() + idle);
        }
      } else if (Clock::now() >= until) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (free_.load() > 0) {
          free_.fetch_sub(1);
          return;
        }
      }
      // Another thread of the process may wait for this processor.
      std::this_thread::yield();
    }
  }

 private:
  std::shared_ptr<SharedTasks> Take() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (offers_.empty()) return nullptr;
    const std::shared_ptr<SharedTasks> tasks = std::move(offers_.front());
    offers_.pop_front();
    waiting_.fetch_sub(1);
    return tasks;
  }

  std::mutex mutex_;
  std::deque<std::shared_ptr<SharedTasks>> offers_;
  // Both only fall under the mutex.
  std::atomic<int64_t> free_{0};
  std::atomic<int64_t> waiting_{0};  // offers
};

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_HELPERS_H_
