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
#include "layers.h"

namespace hetjax_test {
namespace {

constexpr int64_t kMostProducts = 100000;
constexpr int64_t kDeepEvery = 400;
constexpr uint8_t kUntouched = 0x5a;
constexpr int32_t kUntouchedWord = 0x5a5a5a5a;
constexpr int64_t kMax32 = std::numeric_limits<int32_t>::max();
constexpr int64_t kMax64 = std::numeric_limits<int64_t>::max();

int64_t Hostile(Random& random) {
  return random.Of<int64_t>({0, -1, 1, 2, 3, 7, 64, 65, 1000, kMax32 - 1, kMax32, kMax32 + 1,
                             -kMax32 - 1, int64_t{1} << 40, int64_t{1} << 62, kMax64, -kMax64 - 1});
}

template <typename T>
std::vector<T> RandomBytes(Random& random, int64_t size) {
  std::vector<T> data(static_cast<size_t>(size));
  uint8_t* bytes = reinterpret_cast<uint8_t*>(data.data());
  for (size_t i = 0; i < sizeof(T) * data.size(); ++i) {
    bytes[i] = static_cast<uint8_t>(random.Int(0, 255));
  }
  return data;
}

std::vector<float> RandomValues(Random& random, int64_t size) {
  std::vector<float> data;
  for (int64_t i = 0; i < size; ++i) data.push_back(RandomValue(random, 1.0f));
  return data;
}

// As many as a caller who says `size` has; a size that must be refused needs none.
size_t Honest(int64_t size) { return size > 0 && size < 1 << 24 ? static_cast<size_t>(size) : 0; }

struct Consumer {
  Channels channels;
  float inv_beta;
  int is_signed;
  std::vector<uint8_t> records;
};

// A call's arguments. Sizes of buffers follow from the vectors.
struct Call {
  uint64_t seed;
  Channels channels;
  int64_t num_channels, num_levels;
  hetjax_cpu_layer layer;
  hetjax_cpu_geometry geometry;
  std::vector<uint8_t> file, storage, records;
  std::vector<int32_t> corrections;
  std::vector<float> values, scale, bias, residual;
  std::vector<uint8_t> out;  // four bytes an element
  std::vector<Consumer> consumers;
  float inv_beta;
  int is_signed, activation;
  int64_t positions, num_consumers, threads;
  bool has_values, has_epilogue, has_residual, keeps_values;
  uint32_t nulls = 0;  // bit i: the pointer number i is null
  int64_t error_size = 200;
};

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

Call ValidCall(Random& random) {
  const LayerCase l = RandomLayer(random, kMostProducts, kDeepEvery);
  Call c = {};
  c.channels = l.channels;
  c.num_channels = l.channels.size();
  c.num_levels = static_cast<int64_t>(l.channels.levels.size());
  c.layer.groups = l.groups;
  c.layer.kernel_height = l.kernel[0];
  c.layer.kernel_width = l.kernel[1];
  c.layer.outputs = l.outputs;
  c.geometry = {l.batch,
                l.size[0],
                l.size[1],
                {l.stride[0], l.stride[1]},
                {l.pad_low[0], l.pad_high[0], l.pad_low[1], l.pad_high[1]},
                {l.dilation[0], l.dilation[1]}};
  c.file = RandomBytes<uint8_t>(random, l.FileBytes());
  c.has_values = random.OneIn(2);
  if (c.has_values) {
    c.values = RandomValues(random, l.pixels() * l.channels.size());
  } else {
    c.records = RandomBytes<uint8_t>(random, l.pixels() * l.channels.RecordBytes());
  }
  c.corrections = RandomBytes<int32_t>(random, 3 * l.taps() * l.outputs);
  c.out.resize(static_cast<size_t>(4 * l.out_pixels() * l.outputs));
  c.has_epilogue = random.OneIn(2);
  c.has_residual = random.OneIn(2);
  c.scale = RandomValues(random, l.outputs);
  c.bias = RandomValues(random, l.outputs);
  if (c.has_residual) c.residual = RandomValues(random, l.out_pixels() * l.outputs);
  for (int64_t i = c.has_epilogue ? random.Int(0, 3) : 0; i > 0; --i) {
    c.consumers.push_back({RandomChannels(random, l.outputs), RandomValue(random, 1.0f),
                           static_cast<int>(random.Int(0, 1)),
                           {}});
    Consumer& consumer = c.consumers.back();
    consumer.records.resize(
        static_cast<size_t>(l.out_pixels() * consumer.channels.RecordBytes()));
  }
  c.num_consumers = static_cast<int64_t>(c.consumers.size());
  c.keeps_values = c.consumers.empty() || random.OneIn(2);
  c.inv_beta = RandomValue(random, 1.0f);
  c.is_signed = static_cast<int>(random.Int(0, 1));
  c.activation = static_cast<int>(random.Int(0, 2));
  c.positions = l.pixels();
  c.threads = random.Int(1, 40);
  return c;
}

template <typename T>
void Resize(Random& random, std::vector<T>* data) {
  const int64_t size = static_cast<int64_t>(data->size());
  data->resize(static_cast<size_t>(
      std::max<int64_t>(0, random.Of<int64_t>({0, size - 1, size + 1, size + 64, 2 * size}))));
}

// Of the output, or -1 if that is not defined.
__int128 OutPixels(const Call& c) {
  __int128 pixels = c.geometry.batch;
  for (int axis = 0; axis < 2; ++axis) {
    const __int128 kernel = axis == 0 ? c.layer.kernel_height : c.layer.kernel_width;
    const __int128 reach = c.geometry.kernel_dilation[axis] * (kernel - 1) + 1;
    __int128 padded = axis == 0 ? c.geometry.height : c.geometry.width;
    padded += c.geometry.padding[2 * axis];
    padded += c.geometry.padding[2 * axis + 1];
    const int64_t stride = c.geometry.strides[axis];
    const __int128 extent = stride < 1 ? -1 : padded < reach ? 0 : (padded - reach) / stride + 1;
    if (pixels < 0 || extent < 0 || extent > kMax32) return -1;
    pixels *= extent;
  }
  return pixels;
}

constexpr int64_t kFewPixels = 1 << 14;

// Gives the results the sizes that the numbers ask for, if these can be had.
void FitOutputs(Call* c) {
  const __int128 pixels = OutPixels(*c);
  if (pixels < 0 || pixels > kFewPixels || c->layer.outputs < 1 || c->layer.outputs > 1000) return;
  const size_t size = static_cast<size_t>(pixels);
  c->out.resize(4 * size * static_cast<size_t>(c->layer.outputs));
  for (Consumer& consumer : c->consumers) {
    consumer.records.resize(size * static_cast<size_t>(consumer.channels.RecordBytes()));
  }
}

void Spoil(Random& random, Call* c) {
  int64_t* const numbers[] = {&c->num_channels,
                              &c->num_levels,
                              &c->layer.groups,
                              &c->layer.kernel_height,
                              &c->layer.kernel_width,
                              &c->layer.outputs,
                              &c->geometry.batch,
                              &c->geometry.height,
                              &c->geometry.width,
                              &c->geometry.strides[0],
                              &c->geometry.strides[1],
                              &c->geometry.padding[0],
                              &c->geometry.padding[1],
                              &c->geometry.padding[2],
                              &c->geometry.padding[3],
                              &c->geometry.kernel_dilation[0],
                              &c->geometry.kernel_dilation[1],
                              &c->positions,
                              &c->error_size,
                              &c->num_consumers,
                              &c->threads};
  constexpr int64_t kNumbers = sizeof(numbers) / sizeof(numbers[0]);
  switch (random.Int(0, 9)) {
    case 0:
    case 1:
    case 2: *numbers[random.Int(0, kNumbers - 1)] = Hostile(random); break;
    case 3: {  // hostile, but perhaps with few outputs
      const int64_t axis = random.Int(0, 1), huge = Hostile(random);
      c->geometry.padding[2 * axis + random.Int(0, 1)] = huge;
      if (random.OneIn(2)) c->geometry.strides[axis] = huge;
      if (random.OneIn(2)) c->geometry.kernel_dilation[axis] = huge;
      FitOutputs(c);
      break;
    }
    case 4: c->nulls |= 1u << random.Int(0, 21); break;
    case 5: {
      std::vector<int32_t>& list = random.OneIn(2) ? c->channels.bits : c->channels.levels;
      if (!list.empty()) {
        list[static_cast<size_t>(random.Int(0, static_cast<int64_t>(list.size()) - 1))] =
            static_cast<int32_t>(Hostile(random));
      }
      break;
    }
    case 6: c->activation = static_cast<int>(Hostile(random)); break;
    case 7: c->has_values = !c->has_values; break;
    case 8: c->keeps_values = !c->keeps_values; break;
    default:
      switch (random.Int(0, 6)) {
        case 0: Resize(random, &c->file); break;
        case 1: Resize(random, &c->storage); break;
        case 2: Resize(random, &c->records); break;
        case 3: Resize(random, &c->corrections); break;
        case 4: Resize(random, &c->values); break;
        case 5:
          Resize(random, &c->out);
          c->out.resize(c->out.size() / 4 * 4);
          break;
        default:
          if (!c->consumers.empty()) Resize(random, &c->consumers.back().records);
      }
  }
}

// Buffers without a size of their own get the one that the numbers imply.
void MakeHonest(Call* c) {
  // Channels in the millions are refused for nothing but their missing bits.
  if (c->num_channels > 0 && Honest(c->num_channels) == 0) c->num_channels = kMax32 + 1;
  c->channels.bits.resize(Honest(c->num_channels), c->channels.levels[0]);
  c->channels.levels.resize(Honest(c->num_levels), 8);
  c->scale.resize(Honest(c->layer.outputs));
  c->bias.resize(Honest(c->layer.outputs));
  if (c->has_residual) c->residual.resize(c->out.size() / 4);
  c->consumers.resize(std::min<size_t>(Honest(c->num_consumers), 1000));
  if (c->num_consumers > 0 && c->num_consumers <= kMax32) {
    c->num_consumers = static_cast<int64_t>(c->consumers.size());
  }
  for (Consumer& consumer : c->consumers) {
    if (consumer.channels.levels.empty()) consumer.channels.levels = {4};
    consumer.channels.bits.resize(Honest(c->layer.outputs), consumer.channels.levels[0]);
  }
  c->layer.bits = c->channels.bits.data();
  c->layer.channels = c->num_channels;
  c->layer.levels = c->channels.levels.data();
  c->layer.num_levels = c->num_levels;
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
