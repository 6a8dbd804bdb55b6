// Drives the C interface with random calls, half of them spoilt: wrong sizes, hostile numbers, null
// pointers. Buffers have exactly the size that the call says, so that AddressSanitizer sees every
// access beyond.
//
//   fuzz [seconds [seed]]
//
// Case number i has the seed `seed` + i; `fuzz 0 S` runs the one with seed S again.
// Every call runs on all instruction sets. They must agree with the portable one in what they
// refuse and in what they give; a call that is not spoilt must succeed, one that is refused must
// say why and leave the results alone.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "core/hetjax_cpu.h"
#include "fuzz_call.h"

namespace hetjax_test {
namespace {

// What a function gave.
struct Result {
  bool refused = false;
  std::string error;
  std::vector<std::vector<uint8_t>> data;
  bool is_defined = true;  // false: any data will do
};

[[noreturn]] void Fail(const Call& c, const char* isa, const std::string& what) {
  std::fprintf(stderr,
               "fuzz: seed %llu, %s: %s\n  channels %lld, groups %lld, kernel %lld x %lld, outputs "
               "%lld, batch %lld, size %lld x %lld, null pointers 0x%x\n",
               (unsigned long long)c.seed, isa, what.c_str(), (long long)c.layer.channels,
               (long long)c.layer.groups,
               (long long)c.layer.kernel_height, (long long)c.layer.kernel_width,
               (long long)c.layer.outputs, (long long)c.geometry.batch,
               (long long)c.geometry.height, (long long)c.geometry.width, c.nulls);
  std::abort();
}

// Calls `function(error, error_size)` and checks what every function promises about errors.
Result Run(const Call& c, const char* isa, const std::function<int(char*, int64_t)>& function) {
  Result result;
  std::vector<char> error(Honest(c.error_size), '?');
  result.refused = function(error.empty() ? nullptr : error.data(), c.error_size) != 0;
  if (result.refused && !error.empty()) {
    if (std::memchr(error.data(), 0, error.size()) == nullptr) Fail(c, isa, "error without end");
    result.error = error.data();
    if (error.size() > 1 && result.error.empty()) Fail(c, isa, "refused without a word");
  }
  return result;
}

template <typename T>
void Keep(const std::vector<T>& data, Result* result) {
  const uint8_t* bytes = reinterpret_cast<const uint8_t*>(data.data());
  result->data.emplace_back(bytes, bytes + sizeof(T) * data.size());
}

void CheckUntouched(const Call& c, const char* isa, const Result& result) {
  for (const std::vector<uint8_t>& data : result.data) {
    for (const uint8_t byte : data) {
      if (byte != kUntouched) Fail(c, isa, "refused, but wrote: " + result.error);
    }
  }
}

template <typename T>
T* Pointer(const Call& c, int number, T* pointer) {
  return c.nulls >> number & 1 ? nullptr : pointer;
}

// The calls of every function, on the instruction set that is forced.
std::vector<Result> RunAll(Call c, const char* isa) {
  std::vector<Result> results;
  hetjax_cpu_layer layer_data = c.layer;
  layer_data.bits = Pointer(c, 0, c.layer.bits);
  layer_data.levels = Pointer(c, 1, c.layer.levels);
  const hetjax_cpu_layer* layer = Pointer(c, 2, &layer_data);
  const auto size = [](const auto& data) { return static_cast<int64_t>(data.size()); };

  int64_t bytes = -1;
  results.push_back(Run(c, isa, [&](char* error, int64_t error_size) {
    return hetjax_cpu_storage_bytes(layer, Pointer(c, 3, &bytes), error, error_size);
  }));
  // Of another length than the engine asks for if it was spoilt.
  if (c.storage.empty()) c.storage.resize(Honest(bytes));
  std::fill(c.storage.begin(), c.storage.end(), kUntouched);
  std::vector<int32_t> corrections(c.corrections.size(), kUntouchedWord);
  results.push_back(Run(c, isa, [&](char* error, int64_t error_size) {
    return hetjax_cpu_relayout(layer, Pointer(c, 4, c.file.data()), size(c.file),
                               Pointer(c, 5, c.storage.data()), size(c.storage),
                               Pointer(c, 6, corrections.data()), size(corrections), error,
                               error_size);
  }));
  const bool is_prepared = !results.back().refused;
  if (is_prepared) {
    // The other two kinds of corrections follow, as the storage, from the format's units.
    const auto lowest = static_cast<std::ptrdiff_t>(corrections.size() / 3 * 2);
    Keep(std::vector<int32_t>(corrections.begin() + lowest, corrections.end()), &results.back());
  } else {
    Keep(corrections, &results.back());
    Keep(c.storage, &results.back());
    CheckUntouched(c, isa, results.back());
    std::fill(c.storage.begin(), c.storage.end(), uint8_t{1});
  }

  // As many positions as can be had; hostile numbers of them must be refused.
  const int64_t positions = static_cast<int64_t>(Honest(c.positions));
  std::vector<uint8_t> records(Honest(positions * c.channels.RecordBytes()), kUntouched);
  std::vector<float> x(Honest(positions * c.channels.size()));
  for (size_t i = 0; i < x.size() && !c.values.empty(); ++i) x[i] = c.values[i % c.values.size()];
  results.push_back(Run(c, isa, [&](char* error, int64_t error_size) {
    return hetjax_cpu_quantize_pack(layer, Pointer(c, 7, x.data()), c.positions, c.inv_beta,
                                    c.is_signed, Pointer(c, 8, records.data()), size(records),
                                    error, error_size);
  }));
  Keep(records, &results.back());
  if (results.back().refused) CheckUntouched(c, isa, results.back());

  std::vector<hetjax_cpu_consumer> consumers;
  for (Consumer& consumer : c.consumers) {
    std::fill(consumer.records.begin(), consumer.records.end(), kUntouched);
    consumers.push_back({Pointer(c, 9, consumer.channels.bits.data()),
                         Pointer(c, 10, consumer.channels.levels.data()),
                         size(consumer.channels.levels), consumer.inv_beta, consumer.is_signed,
                         Pointer(c, 11, consumer.records.data()), size(consumer.records)});
  }
  const hetjax_cpu_epilogue epilogue = {Pointer(c, 12, c.scale.data()),
                                        Pointer(c, 13, c.bias.data()),
                                        c.has_residual ? c.residual.data() : nullptr,
                                        c.activation,
                                        Pointer(c, 14, consumers.data()),
                                        c.num_consumers};
  const hetjax_cpu_input input = {c.has_values ? nullptr : Pointer(c, 15, c.records.data()),
                                  size(c.records),
                                  c.has_values ? Pointer(c, 15, c.values.data()) : nullptr,
                                  size(c.values),
                                  c.inv_beta,
                                  c.is_signed,
                                  Pointer(c, 16, c.storage.data()),
                                  size(c.storage),
                                  Pointer(c, 17, corrections.data()),
                                  size(corrections)};
  std::fill(c.out.begin(), c.out.end(), kUntouched);
  results.push_back(Run(c, isa, [&](char* error, int64_t error_size) {
    return hetjax_cpu_conv(layer, Pointer(c, 18, &c.geometry), Pointer(c, 19, &input),
                           c.has_epilogue ? &epilogue : nullptr,
                           c.keeps_values ? c.out.data() : nullptr, size(c.out) / 4, error,
                           error_size);
  }));
  results.back().is_defined = is_prepared;
  for (const Consumer& consumer : c.consumers) Keep(consumer.records, &results.back());
  Keep(c.out, &results.back());
  if (results.back().refused) CheckUntouched(c, isa, results.back());

  // Tasks follow from the kernels' tile. Very many of them are no error, but take long to list.
  if (OutPixels(c) <= kFewPixels) {
    std::vector<int64_t> work(static_cast<size_t>(c.threads & 63), kUntouchedWord);
    int64_t count = kUntouchedWord;
    results.push_back(Run(c, isa, [&](char* error, int64_t error_size) {
      return hetjax_cpu_tasks(layer, Pointer(c, 18, &c.geometry), c.threads,
                              Pointer(c, 20, work.data()), size(work), Pointer(c, 21, &count),
                              error, error_size);
    }));
    results.back().is_defined = false;
  }
  return results;
}

// Values that are no numbers may differ in their bits.
bool IsNan(const uint8_t* bytes) {
  float value;
  std::memcpy(&value, bytes, sizeof(value));
  return std::isnan(value);
}

void CheckEqual(const Call& c, const char* isa, const std::vector<Result>& expected,
                const std::vector<Result>& got) {
  for (size_t f = 0; f < got.size(); ++f) {
    if (expected[f].refused != got[f].refused) {
      // How large an image may be depends on how many bytes a format has for a position.
      const std::string& error = (got[f].refused ? got[f] : expected[f]).error;
      if (error.find("padded image is too large") != std::string::npos) continue;
      Fail(c, isa, "function " + std::to_string(f) + " refused: '" + got[f].error +
                       "', by the portable kernels: '" + expected[f].error + "'");
    }
    if (got[f].refused || !got[f].is_defined) continue;
    for (size_t i = 0; i < got[f].data.size(); ++i) {
      const std::vector<uint8_t>&a = expected[f].data[i], &b = got[f].data[i];
      const bool are_values = f == 3 && i + 1 == got[f].data.size() && c.has_epilogue;
      for (size_t at = 0; at < b.size(); ++at) {
        const size_t word = at / 4 * 4;
        if (a[at] == b[at] || (are_values && IsNan(&a[word]) && IsNan(&b[word]))) continue;
        Fail(c, isa, "function " + std::to_string(f) + ", result " + std::to_string(i) + ", byte " +
                         std::to_string(at) + ": " + std::to_string(a[at]) +
                         " by the portable kernels, " + std::to_string(b[at]));
      }
    }
  }
}

// Returns whether nothing was refused.
bool RunCase(uint64_t seed, const std::vector<std::string>& isas) {
  Random random(seed);
  Call c = ValidCall(random);
  c.seed = seed;
  const int64_t spoils = random.OneIn(2) ? 0 : random.Int(1, 3);
  for (int64_t i = 0; i < spoils; ++i) Spoil(random, &c);
  MakeHonest(&c);
  std::vector<Result> expected;
  bool succeeded = true;
  for (const std::string& isa : isas) {
    if (hetjax_cpu_force_isa(isa.c_str(), nullptr, 0) != 0) {
      Fail(c, isa.c_str(), "cannot be forced");
    }
    std::vector<Result> results = RunAll(c, isa.c_str());
    for (const Result& result : results) {
      succeeded = succeeded && !result.refused;
      if (spoils == 0 && result.refused) Fail(c, isa.c_str(), "valid, but: " + result.error);
    }
    if (expected.empty()) {
      expected = std::move(results);
    } else {
      CheckEqual(c, isa.c_str(), expected, results);
    }
  }
  return succeeded;
}

int Main(int argc, char** argv) {
  const double seconds = argc > 1 ? std::atof(argv[1]) : 10;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  std::vector<std::string> isas = {""};
  for (const char* name = hetjax_cpu_isas(); *name != '\0'; ++name) {
    if (*name == ',') {
      isas.emplace_back();
    } else {
      isas.back() += *name;
    }
  }
  char error[100];
  if (hetjax_cpu_force_isa("no such thing", error, sizeof(error)) != 1) return 1;
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  int64_t cases = 0, succeeded = 0;
  for (; cases == 0 || std::chrono::steady_clock::now() < end; ++cases) {
    succeeded += RunCase(seed + static_cast<uint64_t>(cases), isas);
  }
  std::printf("fuzz: %lld cases, of which %lld succeeded and the others were refused; each on %s\n",
              static_cast<long long>(cases), static_cast<long long>(succeeded), hetjax_cpu_isas());
  return 0;
}

}  // namespace
}  // namespace hetjax_test

// A hostile window may ask for any memory; that there is not so much must be an error like others.
extern "C" const char* __asan_default_options() {
  return "allocator_may_return_null=1:max_allocation_size_mb=256";
}

int main(int argc, char** argv) { return hetjax_test::Main(argc, argv); }
