// Working memory that outlives calls, so that a call allocates nothing once its thread has run one
// of its size.
#ifndef HETJAX_XLA_CPU_CORE_SCRATCH_H_
#define HETJAX_XLA_CPU_CORE_SCRATCH_H_

#include <cstdint>
#include <cstdlib>
#include <new>

namespace hetjax {

class ScratchBuffer {
 public:
  ~ScratchBuffer() { std::free(data_); }

  uint8_t* Get(int64_t bytes) {
    if (bytes > size_) {
      std::free(data_);
      size_ = 0;
      const int64_t wanted = (bytes + kAlignment - 1) / kAlignment * kAlignment;
      data_ = std::aligned_alloc(kAlignment, static_cast<size_t>(wanted));
      if (data_ == nullptr) throw std::bad_alloc();
      size_ = wanted;
    }
    return static_cast<uint8_t*>(data_);
  }

 private:
  static constexpr int64_t kAlignment = 4096;
  void* data_ = nullptr;
  int64_t size_ = 0;
};

// Of the thread that runs a task, and of the thread that makes the call. A thread runs one task at
// a time, and a call's own memory is not touched by the tasks that its thread runs meanwhile.
inline uint8_t* TaskScratch(int64_t bytes) {
  static thread_local ScratchBuffer buffer;
  return buffer.Get(bytes);
}
inline uint8_t* CallScratch(int64_t bytes) {
  static thread_local ScratchBuffer buffer;
  return buffer.Get(bytes);
}

// Takes aligned pieces of a buffer in order; adds up sizes if there is no buffer yet.
class Carver {
 public:
  explicit Carver(uint8_t* base = nullptr) : base_(base) {}

  template <typename T>
  T* Take(int64_t count) {
    T* piece = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    used_ += (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
    return piece;
  }
  int64_t used() const { return used_; }

 private:
  uint8_t* base_;
  int64_t used_ = 0;
};

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_CORE_SCRATCH_H_
