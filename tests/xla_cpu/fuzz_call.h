// The fuzzer's calls: right ones, and the ways in which they are spoilt.
#ifndef HETJAX_TESTS_XLA_CPU_FUZZ_CALL_H_
#define HETJAX_TESTS_XLA_CPU_FUZZ_CALL_H_

#include <cstdint>
#include <limits>
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

}  // namespace
}  // namespace hetjax_test

#endif  // HETJAX_TESTS_XLA_CPU_FUZZ_CALL_H_
