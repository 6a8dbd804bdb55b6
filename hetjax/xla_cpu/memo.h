// Objects made from a call's attributes, kept from call to call.
#ifndef HETJAX_XLA_CPU_MEMO_H_
#define HETJAX_XLA_CPU_MEMO_H_

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace hetjax {

// A call asks by the attributes' values: their addresses may be those of another, freed program.
template <typename T>
class Memo {
 public:
  using Key = std::initializer_list<::xla::ffi::Span<const int32_t>>;

  template <typename Make>
  std::shared_ptr<const T> Get(Key key, const Make& make) {
    const uint64_t hash = Hash(key);
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto range = entries_.equal_range(hash);
    for (auto it = range.first; it != range.second; ++it) {
      if (Equal(key, it->second.key)) return it->second.value;
    }
    if (entries_.size() >= kMost) entries_.clear();  // those in use live on
    Entry entry;
    for (const auto& span : key) {
      entry.key.push_back(static_cast<int32_t>(span.size()));
      entry.key.insert(entry.key.end(), span.begin(), span.end());
    }
    entry.value = make();
    return entries_.emplace(hash, std::move(entry))->second.value;
  }

 private:
  static constexpr size_t kMost = 4096;

  struct Entry {
    std::vector<int32_t> key;
    std::shared_ptr<const T> value;
  };

  // Of some of the values: comparing them all afterwards is much faster than hashing them.
  static uint64_t Hash(Key key) {
    constexpr size_t kSamples = 32;
    uint64_t hash = 0xcbf29ce484222325u;
    for (const auto& span : key) {
      hash = (hash ^ span.size()) * 0x100000001b3u;
      for (size_t i = 0; i < span.size(); i += 1 + span.size() / kSamples) {
        hash = (hash ^ static_cast<uint32_t>(span[i])) * 0x100000001b3u;
      }
    }
    return hash;
  }

  static bool Equal(Key key, const std::vector<int32_t>& stored) {
    size_t at = 0;
    for (const auto& span : key) {
      if (at + 1 + span.size() > stored.size()) return false;
      if (stored[at++] != static_cast<int32_t>(span.size())) return false;
      if (!std::equal(span.begin(), span.end(), stored.begin() + static_cast<int64_t>(at))) {
        return false;
      }
      at += span.size();
    }
    return at == stored.size();
  }

  std::mutex mutex_;
  std::unordered_multimap<uint64_t, Entry> entries_;
};

}  // namespace hetjax

#endif  // HETJAX_XLA_CPU_MEMO_H_
