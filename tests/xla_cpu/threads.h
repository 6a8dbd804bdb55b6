// Threads for the core's tests, with what earlier work may have left in theirs.
#ifndef HETJAX_TESTS_XLA_CPU_THREADS_H_
#define HETJAX_TESTS_XLA_CPU_THREADS_H_

#include <atomic>
#include <cfenv>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "core/executor.h"
#include "core/scratch.h"

namespace hetjax_test {

// What calls before this one may have left in a thread's working memory.
inline void SpoilScratch() {
  constexpr int64_t kBytes = 1 << 20;
  std::memset(hetjax::TaskScratch(kBytes), 0xff, kBytes);
  std::memset(hetjax::CallScratch(kBytes), 0xff, kBytes);
}

// Threads whose roundings the core has to set right.
class Threads final : public hetjax::Executor {
 public:
  explicit Threads(int64_t count, int rounding = FE_UPWARD) : count_(count), rounding_(rounding) {}
  int64_t threads() const override { return count_; }
  int64_t least_products(int64_t) const override { return 0; }
  void Run(int64_t count, const std::function<void(int64_t)>& task) override {
    std::atomic<int64_t> next{0};
    std::vector<std::thread> threads;
    for (int64_t i = 0; i < count_; ++i) {
      threads.emplace_back([&] {
        std::fesetround(rounding_);
        SpoilScratch();
        for (int64_t t; (t = next.fetch_add(1)) < count;) task(t);
      });
    }
    for (std::thread& thread : threads) thread.join();
  }

 private:
  const int64_t count_;
  const int rounding_;
};

}  // namespace hetjax_test

#endif  // HETJAX_TESTS_XLA_CPU_THREADS_H_
