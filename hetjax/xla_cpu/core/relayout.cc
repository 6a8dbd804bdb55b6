#include <algorithm>
#include <cstring>

#include "bits.h"
#include "ops.h"

namespace hetjax {
namespace {

// Outputs whose weights a matrix holds.
constexpr int64_t kHalf = kMatrixBlock / 2;

// Reads one output channel's row of one level in the weight file.
struct FileRow {
  const uint8_t* bytes;
  int64_t size;

  uint32_t Codes(int64_t code, int64_t count, int level) const {
    return ReadBits(bytes, size, code * level, static_cast<int>(count * level));
  }
};

// Start of the rows of every group in every level: [group * levels + level].
std::vector<int64_t> RowStarts(const Layer& layer) {
  std::vector<int64_t> starts(layer.parts.size());
  int64_t next = 0;
  for (size_t l = 0; l < layer.levels.size(); ++l) {
    for (int64_t g = 0; g < layer.groups; ++g) {
      starts[static_cast<size_t>(g) * layer.levels.size() + l] = next;
      next += layer.file_row_bytes(g, l) * layer.outputs_per_group;
    }
  }
  return starts;
}

int32_t OddLevel(uint32_t code, int level) {
  return 2 * static_cast<int32_t>(code) - ((1 << level) - 1);
}

// What a lane stores of a unit's packed codes: the codes themselves at 1 and 2 bits and where they
// fill it (their complement where instructions count differing bits), else odd levels as int8 or
// int16. Where there are planes they hold nibbles, in bytes.
uint32_t Stored(uint32_t packed, int64_t count, int level, const UnitKind& kind) {
  if (level == 1 && kind.channels == 32) return ~packed;
  if (kind.planes == 2) return (packed & 15) | packed >> 4 << 8;
  if (level <= 2 || kind.channels * level == 8 * kind.lane_bytes) return packed;
  const int width = 8 * kind.lane_bytes / kind.channels;
  uint32_t unit = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int32_t odd = OddLevel(packed >> level * i & ((1u << level) - 1), level);
    unit |= (static_cast<uint32_t>(odd) & ((1u << width) - 1)) << width * i;
  }
  return unit;
}

// Adds a level's part to the three corrections of a tap; modulo 2^32, as only the accumulator as a
// whole is promised to fit.
void AddCorrections(const Layer& layer, size_t l, const Part& part, uint32_t sum,
                    uint32_t* const (&corrections)[3]) {
  const int level = layer.levels[l];
  const UnitKind& kind = layer.unit(l);
  const uint32_t m = (1u << level) - 1;
  const uint32_t multiplier = static_cast<uint32_t>(layer.multiplier(l));
  // Code zero everywhere: sum of -m q.
  const uint32_t lowest = 0u - multiplier * m * sum;
  uint32_t is_signed = lowest, is_unsigned = 0;
  if (level <= 2 && !layer.is_matrix()) {
    // sum of a' q = 2 raw - biases; the sum of u q is half of sum of a' q + m sum of q. Biases and
    // m sum of q are both even or both odd, so the half is exact; it is taken before they wrap.
    const int64_t filled = part.row_units / layer.kernel_width * kind.channels;
    const int64_t biases = int64_t{m} * m * (filled + filled - part.count);
    const int64_t half = (int64_t{m} * static_cast<int32_t>(sum) - biases) / 2;
    is_signed = multiplier * static_cast<uint32_t>(-biases);
    is_unsigned = multiplier * static_cast<uint32_t>(half);
  }
  *corrections[kSignedCorrection] += is_signed;
  *corrections[kUnsignedCorrection] += is_unsigned;
  *corrections[kLowestSigned] += lowest;
}

// Adds a level's part to an output's corrections of all taps.
void CorrectOutput(const Layer& layer, size_t l, const Part& part, const FileRow& codes, int64_t n,
                   int32_t* corrections) {
  uint32_t* const to = reinterpret_cast<uint32_t*>(corrections);
  for (int64_t tap = 0; tap < layer.taps; ++tap) {
    int32_t sum = 0;
    for (int64_t c = 0; c < part.count; ++c) {
      sum += OddLevel(codes.Codes(tap * part.count + c, 1, layer.levels[l]), layer.levels[l]);
    }
    uint32_t* const at_tap[3] = {to + (0 * layer.taps + tap) * layer.outputs + n,
                                 to + (1 * layer.taps + tap) * layer.outputs + n,
                                 to + (2 * layer.taps + tap) * layer.outputs + n};
    AddCorrections(layer, l, part, static_cast<uint32_t>(sum), at_tap);
  }
}

void RelayoutOutput(const Layer& layer, const std::vector<int64_t>& starts, const uint8_t* file,
                    int64_t n, uint8_t* storage, int32_t* corrections) {
  const int64_t g = n / layer.outputs_per_group, row = n % layer.outputs_per_group;
  const int64_t block = row / layer.format.block, lanes = layer.lanes(block);
  for (size_t l = 0; l < layer.levels.size(); ++l) {
    const Part& part = layer.part(g, l);
    if (part.count == 0) continue;
    const int level = layer.levels[l];
    const UnitKind& kind = layer.unit(l);
    const int64_t row_bytes = layer.file_row_bytes(g, l);
    const size_t at = static_cast<size_t>(g) * layer.levels.size() + l;
    const FileRow codes = {file + starts[at] + row * row_bytes, row_bytes};
    const int32_t lane = layer.format.lane(level, static_cast<int32_t>(row % layer.format.block));
    const int64_t plane_bytes = kind.lane_bytes / kind.planes;
    uint8_t* to = storage + layer.part_storage(g, block, l) + lane * plane_bytes;
    const auto store = [&](int64_t code, int64_t count) {
      const uint32_t packed = codes.Codes(code, count, level);
      uint32_t stored = Stored(packed, count, level, kind);
      for (int32_t p = 0; p < kind.planes; ++p, stored >>= 8, to += lanes * plane_bytes) {
        std::memcpy(to, &stored, static_cast<size_t>(plane_bytes));
      }
    };
    // Codes of a row of taps are contiguous in the file; so are they in units that span taps.
    const int64_t together = kind.spans_taps ? layer.kernel_width * part.count : part.count;
    for (int64_t begin = 0; begin < layer.taps * part.count; begin += together) {
      for (int64_t first = 0; first < together; first += kind.channels) {
        store(begin + first, std::min<int64_t>(together - first, kind.channels));
      }
    }
    CorrectOutput(layer, l, part, codes, n, corrections);
  }
}

// Where a narrow code of a quad lies among its bytes: see QuadRun.
void StoreQuadCode(uint32_t code, int32_t level, int64_t i, uint8_t* quad) {
  if (level == 1) {
    quad[i / 8] |= static_cast<uint8_t>(code << i % 8);
  } else if (level == 2) {
    quad[i % 16] |= static_cast<uint8_t>(code << i / 16 * 2);
  } else {
    quad[i % 32] |= static_cast<uint8_t>(code << i / 32 * 4);
  }
}

// One half of a block of a matrix layer, whose storage holds zeros: output channels from `first` of
// group g on.
void RelayoutMatrix(const Layer& layer, const std::vector<int64_t>& starts, const uint8_t* file,
                    int64_t g, int64_t first, uint8_t* storage, int32_t* corrections) {
  const MatrixGroup& matrix = layer.matrices[static_cast<size_t>(g)];
  const int64_t block = first / kMatrixBlock, half = first % kMatrixBlock / kHalf;
  uint8_t* const to = storage + layer.block_storage(g, block);
  const int64_t end = std::min(layer.outputs_per_group, first + kHalf);
  for (size_t l = 0; l < layer.levels.size(); ++l) {
    const Part& part = layer.part(g, l);
    const int level = layer.levels[l];
    const int64_t row_bytes = layer.file_row_bytes(g, l);
    const uint8_t* rows = file + starts[static_cast<size_t>(g) * layer.levels.size() + l];
    for (int64_t row = first; row < end && part.count > 0; ++row) {
      const FileRow codes = {rows + row * row_bytes, row_bytes};
      const int64_t n = g * layer.outputs_per_group + row, lane = row - first;
      CorrectOutput(layer, l, part, codes, n, corrections);
      for (int64_t at = 0; at < layer.taps * part.count; ++at) {
        const uint32_t code = codes.Codes(at, 1, level);
        const int64_t tap = at / part.count, r = tap / layer.kernel_width;
        const int64_t in_row =
            tap % layer.kernel_width * part.position_bytes + part.offset + at % part.count;
        const int64_t quad = in_row / kQuad, i = kQuad * lane + in_row % kQuad;
        if (level == 8) {
          const int64_t step = r * matrix.wide.steps + quad / (kStepCodes / kQuad);
          to[matrix.wide.weights + step * kStepBytes + half * (kStepBytes / 2) +
             quad % (kStepCodes / kQuad) * kStepCodes + i] = static_cast<uint8_t>(code ^ 0x80);
          continue;
        }
        int64_t begin = 0, passed = 0;
        const QuadRun* run = matrix.narrow.quads.data();
        for (; quad >= passed + run->quads; passed += run->quads, ++run) {
          begin += int64_t{run->level} * run->quads * (kStepCodes / 8) * 2;
        }
        uint8_t* const quad_bytes =
            to + matrix.narrow.weights + r * matrix.narrow.row_bytes + begin +
            (2 * (quad - passed) + half) * run->level * (kStepCodes / 8);
        if (run->level == 8) {
          const int32_t times = 1 << 2 * (matrix.top - level);
          quad_bytes[i] = static_cast<uint8_t>(OddLevel(code, level) * times);
        } else {
          StoreQuadCode(code, level, i, quad_bytes);
        }
      }
    }
  }
}

void RelayoutDepthwise(const Layer& layer, const std::vector<int64_t>& starts, const uint8_t* file,
                       int64_t n, uint8_t* storage, int32_t* corrections) {
  const int64_t g = n / layer.outputs_per_group;
  size_t l = 0;
  while (layer.part(g, l).count == 0) ++l;
  const int level = layer.levels[l];
  const int64_t row_bytes = layer.file_row_bytes(g, l);
  const size_t at = static_cast<size_t>(g) * layer.levels.size() + l;
  const FileRow codes = {file + starts[at] + n % layer.outputs_per_group * row_bytes, row_bytes};
  const int32_t lowest = -((1 << level) - 1) * layer.multiplier(l);
  for (int64_t tap = 0; tap < layer.taps; ++tap) {
    const int32_t odd = OddLevel(codes.Codes(tap, 1, level), level);
    const int64_t pair = tap / 2 * layer.depthwise_lanes();
    if (layer.narrow_depthwise) {
      storage[2 * (pair + NarrowLane(n)) + tap % 2] =
          static_cast<uint8_t>(odd * layer.multiplier(l));
    } else {
      const int16_t weight = static_cast<int16_t>(odd);
      std::memcpy(storage + 4 * (pair + DepthwiseLane(n)) + 2 * (tap % 2), &weight, 2);
    }
    corrections[(kSignedCorrection * layer.taps + tap) * layer.outputs + n] = lowest * odd;
    corrections[(kLowestSigned * layer.taps + tap) * layer.outputs + n] = lowest * odd;
  }
}

}  // namespace

void Relayout(const Layer& layer, const uint8_t* file, uint8_t* storage, int32_t* corrections,
              Executor& executor) {
  const std::vector<int64_t> starts = RowStarts(layer);
  std::memset(storage, 0, static_cast<size_t>(layer.storage_bytes));
  std::memset(corrections, 0,
              sizeof(int32_t) * static_cast<size_t>(kCorrections * layer.taps * layer.outputs));
  if (layer.is_matrix()) {
    // Half blocks are the least that share no byte.
    const int64_t halves = (layer.outputs_per_group + kHalf - 1) / kHalf;
    return executor.Run(layer.groups * halves, [&](int64_t task) {
      RelayoutMatrix(layer, starts, file, task / halves, task % halves * kHalf, storage, corrections);
    });
  }
  constexpr int64_t kOutputsEach = 64;
  executor.Run((layer.outputs + kOutputsEach - 1) / kOutputsEach, [&](int64_t chunk) {
    const int64_t end = std::min(layer.outputs, (chunk + 1) * kOutputsEach);
    for (int64_t n = chunk * kOutputsEach; n < end; ++n) {
      if (layer.depthwise) {
        RelayoutDepthwise(layer, starts, file, n, storage, corrections);
      } else {
        RelayoutOutput(layer, starts, file, n, storage, corrections);
      }
    }
  });
}

}  // namespace hetjax
