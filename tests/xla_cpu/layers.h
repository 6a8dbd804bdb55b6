// Random layers, and the packed layouts written down once more, from docs/arithmetic.md alone.
#ifndef HETJAX_TESTS_XLA_CPU_LAYERS_H_
#define HETJAX_TESTS_XLA_CPU_LAYERS_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <random>
#include <vector>

namespace hetjax_test {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  // low .. high, both included.
  int64_t Int(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(engine_() % static_cast<uint64_t>(high - low + 1));
  }
  bool OneIn(int64_t n) { return Int(1, n) == 1; }
  template <typename T>
  T Of(std::initializer_list<T> values) {
    return values.begin()[Int(0, static_cast<int64_t>(values.size()) - 1)];
  }
  float Uniform(float low, float high) {
    return low + (high - low) * static_cast<float>(Int(0, 1 << 24)) * 0x1p-24f;
  }

 private:
  std::mt19937_64 engine_;
};

// Channels with a level each, of a palette.
struct Channels {
  std::vector<int32_t> bits;
  std::vector<int32_t> levels;  // increasing

  int64_t size() const { return static_cast<int64_t>(bits.size()); }
  int64_t Count(int32_t level) const { return std::count(bits.begin(), bits.end(), level); }
  int64_t RecordBytes() const {
    int64_t bytes = 0;
    for (const int32_t p : levels) bytes += (Count(p) * p + 31) / 32 * 4;
    return bytes;
  }
};

inline Channels RandomChannels(Random& random, int64_t count) {
  Channels channels;
  while (channels.levels.empty() || channels.levels.size() > 3) {
    channels.levels.clear();
    for (const int32_t p : {1, 2, 4, 8}) {
      if (random.OneIn(2)) channels.levels.push_back(p);
    }
  }
  // Some mixes leave levels of the palette without channels.
  std::vector<int32_t> mix;
  for (const int32_t p : channels.levels) {
    mix.insert(mix.end(), static_cast<size_t>(random.Of({0, 1, 1, 4})), p);
  }
  if (mix.empty()) mix = {channels.levels[0]};
  for (int64_t c = 0; c < count; ++c) {
    channels.bits.push_back(mix[static_cast<size_t>(random.Int(0, int64_t(mix.size()) - 1))]);
  }
  return channels;
}

struct LayerCase {
  Channels channels;
  int64_t groups = 1, kernel[2] = {1, 1}, outputs = 1;
  int64_t batch = 1, size[2] = {1, 1}, stride[2] = {1, 1}, dilation[2] = {1, 1};
  int64_t pad_low[2] = {0, 0}, pad_high[2] = {0, 0};
  bool is_signed = false;

  int64_t taps() const { return kernel[0] * kernel[1]; }
  int64_t group_channels() const { return channels.size() / groups; }
  int64_t group_outputs() const { return outputs / groups; }
  int64_t pixels() const { return batch * size[0] * size[1]; }
  int64_t Out(int axis) const {
    const int64_t reach = dilation[axis] * (kernel[axis] - 1) + 1;
    const int64_t padded = size[axis] + pad_low[axis] + pad_high[axis];
    return padded < reach ? 0 : (padded - reach) / stride[axis] + 1;
  }
  int64_t out_pixels() const { return batch * Out(0) * Out(1); }
  int64_t products() const { return out_pixels() * taps() * group_channels() * outputs; }
  int64_t FileBytes() const {
    int64_t bytes = 0;
    for (int64_t g = 0; g < groups; ++g) {
      const auto first = channels.bits.begin() + g * group_channels();
      for (const int32_t p : channels.levels) {
        const int64_t count = std::count(first, first + group_channels(), p);
        bytes += group_outputs() * ((taps() * count * p + 7) / 8);
      }
    }
    return bytes;
  }
};

// Layers of every kind, of at most so many products; one in `deep_every` is so deep that partial
// sums have to be moved to wider words, or a matrix too large for a cache.
inline LayerCase RandomLayer(Random& random, int64_t most_products, int64_t deep_every) {
  LayerCase c;
  c.is_signed = random.OneIn(2);
  c.batch = random.OneIn(30) ? 0 : random.Int(1, 3);
  int64_t channels = random.Int(1, 130);
  c.outputs = random.OneIn(3) ? random.Of<int64_t>({31, 32, 33, 63, 64, 65, 96, 97, 128})
                              : random.Int(1, 140);
  for (int axis = 0; axis < 2; ++axis) {
    c.kernel[axis] = random.Of({1, 1, 2, 3, 3, 5});
    c.stride[axis] = random.Of({1, 1, 2, 3});
    c.dilation[axis] = random.Of({1, 1, 2, 3});
    c.size[axis] = random.OneIn(30) ? 0 : random.OneIn(6) ? random.Int(10, 40) : random.Int(1, 9);
    c.pad_low[axis] = random.OneIn(2) ? random.Int(0, 5) : 0;
    c.pad_high[axis] = random.OneIn(2) ? random.Int(0, 5) : 0;
    if (c.Out(axis) == 0 && !random.OneIn(8)) c.size[axis] += c.dilation[axis] * c.kernel[axis];
  }
  if (random.OneIn(deep_every)) {
    c.batch = 1;
    c.size[0] = c.size[1] = 3;
    if (random.OneIn(5)) {
      channels = random.Int(2000, 2100);
      c.outputs = (3 << 20) / channels + random.Int(0, 70);
      for (int axis = 0; axis < 2; ++axis) {
        c.kernel[axis] = c.stride[axis] = 1;
        c.size[axis] = random.Int(1, 2);
        c.pad_low[axis] = c.pad_high[axis] = 0;
      }
      most_products = std::numeric_limits<int64_t>::max();
    } else {
      channels = random.OneIn(2) ? random.Int(500, 2000) : random.Int(2500, 3600);
      c.outputs = random.Int(1, channels > 2000 ? 3 : 40);
      for (int axis = 0; channels > 2000 && axis < 2; ++axis) {
        c.kernel[axis] = 5;
        c.dilation[axis] = c.stride[axis] = 1;
        c.pad_low[axis] = c.pad_high[axis] = 2;
      }
    }
  } else if (random.OneIn(4)) {
    c.groups = random.Int(1, std::min<int64_t>(channels, 20));
    channels = channels / c.groups * c.groups;
    c.outputs = (c.outputs + c.groups - 1) / c.groups * c.groups;
  } else if (random.OneIn(5)) {
    c.groups = channels;
    c.outputs = channels * random.Of({1, 1, 2, 3});
    // Around as many taps as sums of 16 bits have room for.
    const bool is_large = random.OneIn(3);
    for (int axis = 0; is_large && axis < 2; ++axis) {
      c.kernel[axis] = random.Int(11, 13);
      c.stride[axis] = c.dilation[axis] = 1;
      c.size[axis] = random.Int(11, 15);
    }
  }
  if (random.OneIn(deep_every)) {
    // Outputs of some pixels fill a cache.
    channels = random.Int(1, 70);
    c.batch = c.groups = 1;
    c.outputs = random.Int(200, 300);
    for (int axis = 0; axis < 2; ++axis) {
      c.size[axis] = random.Int(16, 20);
      c.stride[axis] = c.dilation[axis] = 1;
      if (c.kernel[axis] > 3 || random.OneIn(2)) c.kernel[axis] = 1;
    }
    most_products = std::numeric_limits<int64_t>::max();
  }
  if (random.OneIn(8 * deep_every)) {
    // Windows of some columns and two rows, whose pixels lie apart.
    channels = 127;
    c.batch = c.groups = c.outputs = 1;
    const int64_t kernel[2] = {6, 2}, size[2] = {7, 1033};
    for (int axis = 0; axis < 2; ++axis) {
      c.kernel[axis] = kernel[axis];
      c.size[axis] = size[axis];
      c.stride[axis] = 1;
      c.dilation[axis] = axis + 1;
      c.pad_low[axis] = c.pad_high[axis] = 0;
    }
  }
  c.channels = RandomChannels(random, channels);
  if (channels > 2400) {  // almost all of one level
    std::fill(c.channels.bits.begin() + 50, c.channels.bits.end(), c.channels.levels[0]);
  }
  // Beyond this many an accumulator may not fit 32 bits.
  if (c.channels.levels.back() == 8 && c.taps() * channels > 33000) c.kernel[0] = c.kernel[1] = 3;
  while (c.products() > most_products) {
    const int axis = c.size[0] > c.size[1] ? 0 : 1;
    if (c.size[axis] > 1) {
      c.size[axis] /= 2;
    } else if (c.batch > 1) {
      c.batch = 1;
    } else if (c.pad_low[0] + c.pad_high[0] + c.pad_low[1] + c.pad_high[1] > 0) {
      for (int i = 0; i < 2; ++i) c.pad_low[i] = c.pad_high[i] = 0;
    } else {
      break;
    }
  }
  return c;
}

// Values around the grid's range, among them ties, ends, zeros and what is no number.
inline float RandomValue(Random& random, float beta) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  switch (random.Int(0, 19)) {
    case 0: return random.Of({0.0f, -0.0f, 0x1p-126f, -0x1p-126f, 1e-40f, -1e-40f, 0x1p-100f});
    case 1: return random.Of({kInfinity, -kInfinity, 3e38f, -3e38f, 100.0f, -100.0f});
    case 2: return std::numeric_limits<float>::quiet_NaN();
    case 3:
    case 4:
    case 5: return beta * static_cast<float>(random.Int(-512, 1024)) * 0x1p-8f;
    default: return beta * random.Uniform(-2.5f, 4.5f);
  }
}

// "Rounding, to the last bit".
inline uint8_t Code(float x, float inv_beta, int32_t p, bool is_signed) {
  const auto flushed = [](float v) { return std::fabs(v) <= 0x1p-126f ? 0.0f : v; };
  const float grid = flushed(flushed(x) * inv_beta);
  if (std::isnan(grid)) return 0;
  const double half = std::ldexp(1.0, p - 1), v = grid;
  const double u =
      is_signed ? std::floor(std::clamp(v, -2.0, 2.0) * (half / 2)) + half
                : std::floor((std::floor(std::clamp(v, 0.0, 4.0) * half) + 1) / 2);
  return static_cast<uint8_t>(std::clamp(u, 0.0, 2 * half - 1));
}

// Appends codes, least significant bits first.
class BitString {
 public:
  void Add(uint8_t code, int32_t p) {
    for (int32_t i = 0; i < p; ++i, ++size_) {
      if (size_ % 8 == 0) bytes_.push_back(0);
      bytes_.back() = static_cast<uint8_t>(bytes_.back() | (code >> i & 1) << size_ % 8);
    }
  }
  // Fills up to whole units of `bits` bits, with zeros or ones.
  void Pad(int64_t bits, uint8_t with = 0) {
    while (size_ % bits != 0) Add(with, 1);
  }
  std::vector<uint8_t> Take() { return std::vector<uint8_t>(bytes_.begin(), bytes_.end()); }

 private:
  std::vector<uint8_t> bytes_;
  int64_t size_ = 0;
};

// Codes [positions][channels] -> records.
inline std::vector<uint8_t> Records(const Channels& channels, const std::vector<uint8_t>& codes,
                                    uint8_t pad = 0) {
  BitString bits;
  const size_t count = channels.bits.size();
  for (size_t first = 0; first < codes.size(); first += count) {
    for (auto p = channels.levels.rbegin(); p != channels.levels.rend(); ++p) {
      for (size_t k = 0; k < count; ++k) {
        if (channels.bits[k] == *p) bits.Add(codes[first + k], *p);
      }
      bits.Pad(32, pad);
    }
  }
  return bits.Take();
}

// Codes [taps][channels of a group][outputs] -> weight file bytes.
inline std::vector<uint8_t> WeightFile(const LayerCase& c, const std::vector<uint8_t>& codes) {
  BitString bits;
  const int64_t width = c.group_channels();
  for (auto p = c.channels.levels.rbegin(); p != c.channels.levels.rend(); ++p) {
    for (int64_t n = 0; n < c.outputs; ++n) {
      const int64_t first = n / c.group_outputs() * width;
      for (int64_t tap = 0; tap < c.taps(); ++tap) {
        for (int64_t k = 0; k < width; ++k) {
          if (c.channels.bits[static_cast<size_t>(first + k)] != *p) continue;
          bits.Add(codes[static_cast<size_t>((tap * width + k) * c.outputs + n)], *p);
        }
      }
      bits.Pad(8);
    }
  }
  return bits.Take();
}

}  // namespace hetjax_test

#endif  // HETJAX_TESTS_XLA_CPU_LAYERS_H_
