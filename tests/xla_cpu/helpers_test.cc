// Callers that share tasks among helpers that stay for more, all at once: every task runs once, a
// failure reaches its caller, and helpers leave.
//
//   helpers_test [rounds]
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

#include "helpers.h"

namespace {

using hetjax::Lingering;
using hetjax::SharedTasks;

void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "helpers_test: %s\n", what);
  std::exit(1);
}

// Every seventh round one task fails.
void Call(Lingering& lingering, int round, std::atomic<int64_t>* taken) {
  const int64_t count = 1 + round % 9;
  std::vector<std::atomic<int>> runs(static_cast<size_t>(count));
  const std::function<void(int64_t)> task = [&](int64_t i) {
    runs[static_cast<size_t>(i)].fetch_add(1);
    if (round % 7 == 0 && i == count / 2) throw std::runtime_error("as asked");
  };
  const auto tasks = std::make_shared<SharedTasks>(count, &task);
  const int64_t wanted = round % 5, got = lingering.Offer(tasks, wanted);
  Require(got >= 0 && got <= wanted, "more helpers than wanted");
  taken->fetch_add(got);
  tasks->Work();
  bool failed = false;
  try {
    tasks->Wait();
  } catch (const std::runtime_error&) {
    failed = true;
  }
  Require(failed == (round % 7 == 0), "a failure is not its caller's");
  for (const std::atomic<int>& run : runs) Require(run.load() == 1, "a task did not run once");
}

// A helper that is offered tasks all the time still leaves.
void CheckLeaving() {
  Lingering lingering;
  std::atomic<bool> is_back{false};
  std::thread helper([&] {
    lingering.Stay(std::chrono::seconds(100), std::chrono::milliseconds(20));
    is_back = true;
  });
  std::atomic<int64_t> taken{0};
  for (int round = 1; !is_back; ++round) Call(lingering, round, &taken);
  helper.join();
  const std::function<void(int64_t)> task = [](int64_t) {};
  const auto tasks = std::make_shared<SharedTasks>(1, &task);
  Require(lingering.Offer(tasks, 1) == 0, "a helper that left is counted");
  Require(taken > 0, "no offer was taken");
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::atoi(argv[1]) : 5000;
  CheckLeaving();
  Lingering lingering;
  std::atomic<bool> ends{false};
  std::atomic<int64_t> taken{0};
  std::vector<std::thread> helpers, callers;
  for (int h = 0; h < 4; ++h) {
    helpers.emplace_back([&] {
      while (!ends) lingering.Stay(std::chrono::microseconds(20), std::chrono::microseconds(300));
    });
  }
  for (int c = 0; c < 3; ++c) {
    callers.emplace_back([&] {
      for (int round = 1; round <= rounds; ++round) Call(lingering, round, &taken);
    });
  }
  for (std::thread& thread : callers) thread.join();
  ends = true;
  for (std::thread& thread : helpers) thread.join();
  Require(taken > 0, "no offer was taken");
  std::printf("helpers_test: %d rounds of 3 callers, %lld offers taken\n", rounds,
              static_cast<long long>(taken.load()));
  return 0;
}
