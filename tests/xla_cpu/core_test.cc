// The core against arithmetic written from docs/arithmetic.md in the plainest way, on random
// layers, for every instruction set of the machine, in one thread and in several.
//
//   core_test [seed [cases [isa]]]
//
// Ends with a message and status 1 at the first difference, or if `isa` cannot run here.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/dispatch.h"
#include "core/ops.h"
#include "layers.h"
#include "threads.h"

namespace hetjax_test {
namespace {

constexpr int64_t kMostProducts = 3 << 20;
constexpr int64_t kDeepEvery = 8;

struct Reader {
  Channels channels;
  bool is_signed;
  float inv_beta;
};

// A layer with its operands and everything that may follow it.
struct Problem {
  LayerCase layer;
  float inv_beta;
  std::vector<float> values;           // [pixels][channels]
  std::vector<uint8_t> codes, kernel;  // of values; [taps][channels of a group][outputs]
  uint8_t pad;                         // what records have in unused bits
  std::vector<float> scale, bias, residual;
  hetjax::Activation activation;
  std::vector<Reader> readers;
};

Problem RandomProblem(Random& random) {
  Problem p;
  p.layer = RandomLayer(random, kMostProducts, kDeepEvery);
  const LayerCase& c = p.layer;
  p.inv_beta = random.Uniform(0.1f, 3.0f);
  const bool extreme = random.OneIn(3), most = extreme && random.OneIn(3);
  const size_t channels = c.channels.bits.size();
  p.values.resize(static_cast<size_t>(c.pixels()) * channels);
  for (size_t i = 0; i < p.values.size(); ++i) {
    p.values[i] = most      ? 1e9f
                  : extreme ? random.Of({-1e9f, 1e9f})
                            : RandomValue(random, 1 / p.inv_beta);
    p.codes.push_back(Code(p.values[i], p.inv_beta, c.channels.bits[i % channels], c.is_signed));
  }
  for (int64_t tap = 0; tap < c.taps(); ++tap) {
    for (int64_t k = 0; k < c.group_channels(); ++k) {
      for (int64_t n = 0; n < c.outputs; ++n) {
        const int64_t channel = n / c.group_outputs() * c.group_channels() + k;
        const int64_t top = (1 << c.channels.bits[static_cast<size_t>(channel)]) - 1;
        p.kernel.push_back(static_cast<uint8_t>(most      ? top
                                                : extreme ? top * random.Int(0, 1)
                                                          : random.Int(0, top)));
      }
    }
  }
  p.pad = static_cast<uint8_t>(random.Int(0, 1));
  for (int64_t n = 0; n < c.outputs; ++n) {
    const float zero = random.Of({0.0f, -0.0f});  // whose sign stays
    p.scale.push_back(random.OneIn(8) ? zero : random.Uniform(-0.1f, 0.1f));
    p.bias.push_back(random.OneIn(3) ? zero : random.Uniform(-3.0f, 3.0f));
  }
  if (random.OneIn(2)) {
    for (int64_t i = c.out_pixels() * c.outputs; i > 0; --i) {
      p.residual.push_back(RandomValue(random, 2.0f));
    }
  }
  p.activation = static_cast<hetjax::Activation>(random.Int(0, 2));
  for (int64_t i = random.Int(0, 2); i > 0; --i) {
    p.readers.push_back(
        {RandomChannels(random, c.outputs), random.OneIn(2), random.Uniform(0.1f, 3.0f)});
  }
  return p;
}

// Levels times 2^(pmax - p), of which T is the plain sum of products.
int64_t Scaled(uint8_t code, int32_t p, int32_t pmax, bool is_signed) {
  return (is_signed ? 2 * code - ((1 << p) - 1) : code) * (int64_t{1} << (pmax - p));
}

// Adds every pixel's part, tap by tap; what lies outside the image is skipped.
std::vector<int64_t> Accumulators(const Problem& p) {
  const LayerCase& c = p.layer;
  const int32_t pmax = c.channels.levels.back();
  const int64_t width = c.group_channels(), height = c.Out(0), columns = c.Out(1);
  std::vector<int64_t> weights;
  for (size_t i = 0; i < p.kernel.size(); ++i) {
    const int64_t n = static_cast<int64_t>(i) % c.outputs;
    const int64_t k = static_cast<int64_t>(i) / c.outputs % width;
    const int64_t channel = n / c.group_outputs() * width + k;
    weights.push_back(
        Scaled(p.kernel[i], c.channels.bits[static_cast<size_t>(channel)], pmax, true));
  }
  std::vector<int64_t> sums(static_cast<size_t>(c.out_pixels() * c.outputs));
  for (int64_t at = 0; at < c.out_pixels(); ++at) {
    const int64_t image = at / (height * columns), y = at / columns % height, x = at % columns;
    for (int64_t tap = 0; tap < c.taps(); ++tap) {
      const int64_t row =
          y * c.stride[0] - c.pad_low[0] + tap / c.kernel[1] * c.dilation[0];
      const int64_t column =
          x * c.stride[1] - c.pad_low[1] + tap % c.kernel[1] * c.dilation[1];
      if (row < 0 || row >= c.size[0] || column < 0 || column >= c.size[1]) continue;
      const int64_t pixel = (image * c.size[0] + row) * c.size[1] + column;
      for (int64_t channel = 0; channel < c.channels.size(); ++channel) {
        const int64_t a =
            Scaled(p.codes[static_cast<size_t>(pixel * c.channels.size() + channel)],
                   c.channels.bits[static_cast<size_t>(channel)], pmax, c.is_signed);
        const int64_t g = channel / width, per_group = c.group_outputs();
        const int64_t* w = weights.data() + (tap * width + channel % width) * c.outputs;
        int64_t* to = sums.data() + at * c.outputs;
        for (int64_t n = g * per_group; n < (g + 1) * per_group; ++n) to[n] += a * w[n];
      }
    }
  }
  return sums;
}

std::vector<float> Values(const Problem& p, const std::vector<int64_t>& sums) {
  std::vector<float> values;
  for (size_t i = 0; i < sums.size(); ++i) {
    const size_t n = i % p.scale.size();
    float y = std::fma(static_cast<float>(sums[i]), p.scale[n], p.bias[n]);
    if (!p.residual.empty()) y += p.residual[i];
    if (p.activation != hetjax::Activation::kNone && y < 0) y = 0;
    if (p.activation == hetjax::Activation::kRelu6 && y > 6) y = 6;
    values.push_back(y);
  }
  return values;
}

std::vector<uint8_t> RecordsOf(const Reader& reader, const std::vector<float>& values) {
  std::vector<uint8_t> codes;
  const size_t channels = reader.channels.bits.size();
  for (size_t i = 0; i < values.size(); ++i) {
    codes.push_back(
        Code(values[i], reader.inv_beta, reader.channels.bits[i % channels], reader.is_signed));
  }
  return Records(reader.channels, codes);
}

bool Equal(float a, float b) {
  return (std::isnan(a) && std::isnan(b)) || std::memcmp(&a, &b, sizeof(a)) == 0;
}
template <typename T>
bool Equal(T a, T b) {
  return a == b;
}

// What a difference is reported with.
struct Context {
  uint64_t seed;
  int64_t number;
  const Problem& problem;
  const char* isa;
};

[[noreturn]] void Fail(const Context& at, const std::string& what) {
  const LayerCase& c = at.problem.layer;
  std::fprintf(stderr,
               "core_test: seed %llu, case %lld, %s: %s\n"
               "  %lld channels, %lld groups, kernel %lld x %lld, %lld outputs, %lld images of "
               "%lld x %lld, %s, palette",
               static_cast<unsigned long long>(at.seed), static_cast<long long>(at.number), at.isa,
               what.c_str(), static_cast<long long>(c.channels.size()),
               static_cast<long long>(c.groups), static_cast<long long>(c.kernel[0]),
               static_cast<long long>(c.kernel[1]), static_cast<long long>(c.outputs),
               static_cast<long long>(c.batch), static_cast<long long>(c.size[0]),
               static_cast<long long>(c.size[1]), c.is_signed ? "signed" : "unsigned");
  for (const int32_t p : c.channels.levels) {
    std::fprintf(stderr, " %d (%lld)", p, static_cast<long long>(c.channels.Count(p)));
  }
  std::fprintf(stderr, "\n");
  std::exit(1);
}

template <typename Expected, typename T>
void Check(const Context& at, const std::string& what, const std::vector<Expected>& expected,
           const std::vector<T>& got) {
  if (expected.size() != got.size()) {
    Fail(at, what + ": expected " + std::to_string(expected.size()) + " of them, got " +
                 std::to_string(got.size()));
  }
  for (size_t i = 0; i < got.size(); ++i) {
    if (!Equal(expected[i], static_cast<Expected>(got[i]))) {
      Fail(at, what + " " + std::to_string(i) + ": expected " + std::to_string(expected[i]) +
                   ", got " + std::to_string(got[i]));
    }
  }
}

// What the core has to give.
struct Answer {
  std::vector<uint8_t> records, file;
  std::vector<int64_t> sums;
  std::vector<float> values;
  std::vector<std::vector<uint8_t>> packed;  // [reader]
};

// One instruction set. Results start as all ones, so that what is not written differs.
void CheckKernels(const Context& at, const Answer& answer, const hetjax::Kernels& kernels,
                  hetjax::Executor& executor, const char* how) {
  const Problem& p = at.problem;
  const LayerCase& c = p.layer;
  const std::string in = std::string(" (") + how + ")";
  const hetjax::Layer layer({c.channels.bits.data(), c.channels.size(), c.channels.levels.data(),
                             static_cast<int64_t>(c.channels.levels.size()), c.groups, c.kernel[0],
                             c.kernel[1], c.outputs},
                            kernels.format());
  const hetjax::Geometry geometry = {
      c.batch,
      c.size[0],
      c.size[1],
      {c.stride[0], c.stride[1]},
      {c.pad_low[0], c.pad_low[1]},
      {c.pad_high[0], c.pad_high[1]},
      {c.dilation[0], c.dilation[1]}};
  if (layer.file_bytes != static_cast<int64_t>(answer.file.size())) Fail(at, "bytes of the file");
  std::vector<uint8_t> storage(static_cast<size_t>(layer.storage_bytes), 0xff);
  std::vector<int32_t> corrections(
      static_cast<size_t>(hetjax::kCorrections * layer.taps * layer.outputs), -1);
  hetjax::Relayout(layer, answer.file.data(), storage.data(), corrections.data(), executor);
  const int64_t outputs = c.out_pixels() * c.outputs;
  hetjax::CheckConv(layer, geometry, layer.storage_bytes, static_cast<int64_t>(corrections.size()),
                    outputs);

  SpoilScratch();
  const hetjax::Quantizer input(layer, c.is_signed);
  std::vector<uint8_t> records(answer.records.size(), 0xff);
  hetjax::QuantizePack(input, p.values.data(), c.pixels(), p.inv_beta, records.data(), kernels,
                       executor);
  Check(at, "byte of the input's records" + in, RecordsOf({c.channels, c.is_signed, p.inv_beta},
                                                          p.values), records);

  hetjax::ConvArguments a = {};
  a.input = &input;
  a.input_inv_beta = p.inv_beta;
  a.is_signed = c.is_signed;
  a.weights = storage.data();
  a.corrections = corrections.data();
  for (const bool quantizes : {false, true}) {
    const std::string from = (quantizes ? " from values" : " from records") + in;
    a.records = quantizes ? nullptr : answer.records.data();
    a.values = quantizes ? p.values.data() : nullptr;
    std::vector<int32_t> sums(static_cast<size_t>(outputs), -1);
    a.out = sums.data();
    SpoilScratch();
    hetjax::Conv(layer, geometry, a, kernels, executor);
    Check(at, "accumulator" + from, answer.sums, sums);

    hetjax::ConvArguments with = a;
    with.scale = p.scale.data();
    with.bias = p.bias.data();
    with.activation = p.activation;
    std::vector<std::unique_ptr<hetjax::Quantizer>> quantizers;
    for (const Reader& reader : p.readers) {
      quantizers.push_back(std::make_unique<hetjax::Quantizer>(
          hetjax::RecordLayout(reader.channels.bits.data(), c.outputs,
                               reader.channels.levels.data(),
                               static_cast<int64_t>(reader.channels.levels.size())),
          reader.is_signed));
    }
    enum class Values { kKept, kInPlace, kDropped };
    for (const Values kind : {Values::kKept, Values::kInPlace, Values::kDropped}) {
      const bool keeps = kind != Values::kDropped;
      if (!keeps && p.readers.empty()) continue;
      if (kind == Values::kInPlace && p.residual.empty()) continue;
      std::vector<float> values(keeps ? static_cast<size_t>(outputs) : 0, NAN);
      with.residual = p.residual.empty() ? nullptr : p.residual.data();
      if (kind == Values::kInPlace) {
        values = p.residual;
        with.residual = values.data();
      }
      std::vector<std::vector<uint8_t>> packed;
      for (const auto& expected : answer.packed) packed.emplace_back(expected.size(), 0xff);
      with.consumers.clear();
      for (size_t i = 0; i < packed.size(); ++i) {
        with.consumers.push_back({quantizers[i].get(), p.readers[i].inv_beta, packed[i].data()});
      }
      with.out = keeps ? values.data() : nullptr;
      SpoilScratch();
      hetjax::Conv(layer, geometry, with, kernels, executor);
      if (keeps) Check(at, "value" + from, answer.values, values);
      for (size_t i = 0; i < packed.size(); ++i) {
        Check(at, "byte of reader " + std::to_string(i) + "'s records" + from, answer.packed[i],
              packed[i]);
      }
    }
  }
}

void CheckCase(uint64_t seed, int64_t number) {
  Random random(seed + static_cast<uint64_t>(number) * 0x9e3779b97f4a7c15u);
  const Problem problem = RandomProblem(random);
  Answer answer;
  answer.records = Records(problem.layer.channels, problem.codes, problem.pad);
  answer.file = WeightFile(problem.layer, problem.kernel);
  answer.sums = Accumulators(problem);
  answer.values = Values(problem, answer.sums);
  for (const Reader& reader : problem.readers) {
    answer.packed.push_back(RecordsOf(reader, answer.values));
  }
  hetjax::Executor serial;
  Threads threads(random.Int(2, 5));
  for (const hetjax::Kernels* kernels : hetjax::AvailableKernels()) {
    const Context at = {seed, number, problem, kernels->name};
    CheckKernels(at, answer, *kernels, serial, "one thread");
    CheckKernels(at, answer, *kernels, threads, "several threads");
  }
}

int Main(int argc, char** argv) {
  const uint64_t seed = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1;
  const int64_t cases = argc > 2 ? std::strtoll(argv[2], nullptr, 10) : 500;
  if (argc > 3) {
    bool is_there = false;
    for (const hetjax::Kernels* kernels : hetjax::AvailableKernels()) {
      is_there = is_there || std::strcmp(kernels->name, argv[3]) == 0;
    }
    if (!is_there) {
      std::fprintf(stderr, "core_test: '%s' cannot run here; available: %s\n", argv[3],
                   hetjax::AvailableNames().c_str());
      return 1;
    }
  }
  for (int64_t i = 0; i < cases; ++i) CheckCase(seed, i);
  std::printf("core_test: %lld cases on each of %s\n", static_cast<long long>(cases),
              hetjax::AvailableNames().c_str());
  return 0;
}

}  // namespace
}  // namespace hetjax_test

int main(int argc, char** argv) { return hetjax_test::Main(argc, argv); }
