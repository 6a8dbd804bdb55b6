// Kernels for processors that multiply matrices of bytes (AMX): see matrix.h. All else is as in
// kernels_avx512_vnni.cc.
#include "kernels.h"

#include <immintrin.h>

namespace hetjax {
namespace {

#include "kernels_common.inc"
#include "vectors_avx2.inc"
#include "encode_avx2.inc"
#include "kernels_avx512.inc"
#include "encode_avx512.inc"
#include "records_avx512.inc"
#include "expand_matrix.inc"

// ---- Weights.

// What unpacking looks up: odd levels times what their level counts. Of 2 bits the lower half of a
// nibble is the code.
struct Values {
  alignas(16) int8_t of[16];
};
constexpr Values MakeValues(int32_t level, int32_t top) {
  Values values = {};
  for (int code = 0; code < 16; ++code) {
    const int odd = 2 * (code & ((1 << level) - 1)) - ((1 << level) - 1);
    values.of[code] = static_cast<int8_t>(odd * (1 << 2 * (top - level)));
  }
  return values;
}
constexpr Values kTwosOfTwo = MakeValues(2, 2), kTwosOfFour = MakeValues(2, 4);
constexpr Values kFours = MakeValues(4, 4);

HETJAX_INLINE __m512i FourTimes(const void* p) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}

// The bytes' lower nibbles, after a shift of every quarter's by its own number of bits.
HETJAX_INLINE __m512i LookUpShifted(__m512i packed, __m512i shifts, __m512i values) {
  const __m512i codes = _mm512_srlv_epi32(packed, shifts);
  return _mm512_shuffle_epi8(values, _mm512_and_si512(codes, Broadcast512(0x0f0f0f0fu)));
}

// Calls unpack(packed, half) for both halves of quads of so many bytes a half, one after another.
template <typename Unpack>
HETJAX_INLINE void UnpackQuads(const uint8_t* packed, int64_t bytes, int32_t quads, uint8_t* to,
                               const Unpack& unpack) {
  for (; quads > 0; --quads, packed += 2 * bytes, to += kStepCodes) {
    Store512(to, unpack(packed));
    Store512(to + kStepBytes / 2, unpack(packed + bytes));
  }
}

void UnpackStep(PackedMatrix* m) {
  constexpr int32_t kQuads = kStepCodes / kQuad;
  const __m512i by_quarter = _mm512_set_epi32(6, 6, 6, 6, 4, 4, 4, 4, 2, 2, 2, 2, 0, 0, 0, 0);
  const __m512i by_half = _mm512_set_epi32(4, 4, 4, 4, 4, 4, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0);
  const __m512i plus = _mm512_set1_epi8(static_cast<char>(1 << 2 * (m->top - 1)));
  const __m512i minus = _mm512_sub_epi8(_mm512_setzero_si512(), plus);
  const __m512i twos = FourTimes(m->top == 2 ? kTwosOfTwo.of : kTwosOfFour.of);
  const __m512i fours = FourTimes(kFours.of);
  for (int32_t done = 0; done < kQuads;) {
    uint8_t* to = m->unpacked + kStepCodes * done;
    if (m->run == m->num_runs) {
      UnpackQuads(m->packed, 0, kQuads - done, to,
                  [](const uint8_t*) { return _mm512_setzero_si512(); });
      break;
    }
    const QuadRun run = m->runs[m->run];
    const int32_t left = run.quads - m->quad;
    const int32_t quads = left < kQuads - done ? left : kQuads - done;
    const int64_t bytes = 8 * run.level;
    switch (run.level) {
      case 1:
        UnpackQuads(m->packed, bytes, quads, to, [&](const uint8_t* p) {
          uint64_t bits;
          __builtin_memcpy(&bits, p, 8);
          return _mm512_mask_blend_epi8(bits, minus, plus);
        });
        break;
      case 2:
        UnpackQuads(m->packed, bytes, quads, to, [&](const uint8_t* p) {
          return LookUpShifted(FourTimes(p), by_quarter, twos);
        });
        break;
      case 4:
        UnpackQuads(m->packed, bytes, quads, to, [&](const uint8_t* p) {
          return LookUpShifted(_mm512_broadcast_i64x4(Load(p)), by_half, fours);
        });
        break;
      default:
        UnpackQuads(m->packed, bytes, quads, to, [](const uint8_t* p) { return Load512(p); });
    }
    done += quads;
    m->packed += 2 * bytes * quads;
    m->quad += quads;
    if (m->quad == run.quads) {
      m->quad = 0;
      ++m->run;
    }
  }
  if (m->run == m->num_runs) m->run = 0;
  m->unpacked += kStepBytes;
}

// ---- Products.

struct Configuration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// Sums of both pieces and halves of outputs are matrices 0 to 3, codes 4 and 5, weights 6 and 7.
void Begin(int32_t pixels) {
  Configuration c;
  for (int i = 0; i < 8; ++i) {
    c.row_bytes[i] = 64;
    c.rows[i] = static_cast<uint8_t>(i < 6 ? pixels : 16);
  }
  _tile_loadconfig(&c);
}

void End() { _tile_release(); }

constexpr int64_t kSumBytes = 4 * kMatrixBlock;

// Sum of a pixel's codes.
HETJAX_INLINE uint32_t SumCodes(const MatrixOperand& x, int side, int32_t pixel) {
  const uint8_t* codes = x.first[side] + pixel * x.pixel_bytes;
  __m512i sum = _mm512_setzero_si512();
  for (int64_t r = 0; r < x.runs; ++r, codes += x.run_bytes) {
    for (int64_t at = 0; at < x.codes; at += 64) {
      const __m512i step = _mm512_maskz_loadu_epi8(FirstBytes(x.codes - at), codes + at);
      sum = _mm512_dpbusd_epi32(sum, step, Broadcast512(0x01010101u));
    }
  }
  return static_cast<uint32_t>(_mm512_reduce_add_epi32(sum));
}

// ---- What follows.

// Codes of outputs from `at` on.
HETJAX_INLINE __m128i Encode(const MatrixCodes& to, int64_t at, __m512 y) {
  const __m512 inv_beta = _mm512_set1_ps(to.inv_beta);
  if (to.is_signed) return Encode16<true, true>(*to.channels, at, inv_beta, y);
  if (IsFlushFree(to.inv_beta)) return Encode16<false, false>(*to.channels, at, inv_beta, y);
  return Encode16<false, true>(*to.channels, at, inv_beta, y);
}

template <bool kWide, bool kRagged>
__attribute__((noinline)) void FinishPixels(const MatrixTile& t, int side, int32_t begin,
                                            int32_t end) {
  const __m128i narrow_shift =
      _mm_cvtsi32_si128(t.narrow_factor == 0 ? 0 : __builtin_ctz(t.narrow_factor));
  const __m128i wide_shift = _mm_cvtsi32_si128(__builtin_ctz(t.wide_factor) + 1);
  const __m512 low = _mm512_set1_ps(t.activation == Activation::kNone ? -__builtin_inff() : 0.0f);
  const __m512 high = _mm512_set1_ps(t.activation == Activation::kRelu6 ? 6.0f : __builtin_inff());
  for (int32_t i = begin; i < end; ++i) {
    const PixelPlace& place = t.places[side][i];
    const uint32_t sum = kWide ? t.wide_factor * SumCodes(t.wide, side, i) : 0;
    HETJAX_UNROLL for (int h = 0; h < 2; ++h) {
      const int n = 16 * h;
      __m512i total = t.constants == nullptr ? _mm512_setzero_si512()
                                             : Load512(t.constants + place.constants + n);
      if (t.narrow.runs > 0) {
        const __m512i sums = Load512((*t.narrow_sums)[side][i] + n);
        total = _mm512_add_epi32(total, _mm512_sll_epi32(sums, narrow_shift));
      }
      if (kWide) {
        const __m512i sums = Load512((*t.wide_sums)[side][i] + n);
        total = _mm512_add_epi32(total, _mm512_sll_epi32(sums, wide_shift));
        total = _mm512_add_epi32(total, Broadcast512(sum));
      }
      const int32_t outputs = t.lanes - n;
      const __mmask16 mask = static_cast<__mmask16>(
          !kRagged || outputs >= 16 ? 0xffff : outputs > 0 ? (1 << outputs) - 1 : 0);
      if (t.scale == nullptr) {
        _mm512_mask_storeu_epi32(static_cast<uint32_t*>(t.out) + place.pixel * t.outputs + n, mask, total);
        continue;
      }
      __m512 y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), _mm512_loadu_ps(t.scale + n),
                                 _mm512_loadu_ps(t.bias + n));
      if (t.residual != nullptr) {
        y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(mask, t.residual + place.pixel * t.outputs + n));
      }
      // In this order NaN stays.
      y = _mm512_min_ps(high, _mm512_max_ps(low, y));
      if (t.out != nullptr) {
        _mm512_mask_storeu_ps(static_cast<float*>(t.out) + place.pixel * t.outputs + n, mask, y);
      }
      for (int64_t k = 0; k < t.num_codes; ++k) {
        const MatrixCodes& c = t.codes[k];
        uint8_t* at = c.codes + (t.pixel[side] + i) * c.pixel_bytes + t.first + n;
        _mm_mask_storeu_epi8(at, mask, Encode(c, t.first + n, y));
      }
    }
  }
}

// What most layers inside a network have: nothing but sums of narrow codes as they are, one unsigned
// consumer, no values kept. Its steps by inv_beta are one factor, as they are powers of two, and its
// limits hold the activation's: neither rounds otherwise.
bool IsPlain(const MatrixTile& t) {
  return t.lanes == kMatrixBlock && t.constants == nullptr && t.narrow_factor == 1 &&
         t.wide.runs == 0 && t.scale != nullptr && t.out == nullptr && t.num_codes == 1 &&
         !t.codes->is_signed && t.codes->inv_beta > 0 && IsFlushFree(t.codes->inv_beta);
}

template <bool kResidual>
__attribute__((noinline)) void FinishPlainPixels(const MatrixTile& t, int side, int32_t begin,
                                                 int32_t end) {
  const MatrixCodes& codes = *t.codes;
  __m512 scale[2], bias[2], steps[2], caps[2];
  const __m512 inv_beta = _mm512_set1_ps(codes.inv_beta);
  HETJAX_UNROLL for (int h = 0; h < 2; ++h) {
    scale[h] = _mm512_loadu_ps(t.scale + 16 * h);
    bias[h] = _mm512_loadu_ps(t.bias + 16 * h);
    steps[h] = _mm512_mul_ps(_mm512_loadu_ps(codes.channels->steps + t.first + 16 * h), inv_beta);
    caps[h] = _mm512_loadu_ps(codes.channels->caps + t.first + 16 * h);
    if (t.activation == Activation::kRelu6) {
      caps[h] = _mm512_min_ps(caps[h], _mm512_mul_ps(_mm512_set1_ps(6.0f), steps[h]));
    }
  }
  // Packing two vectors has taken turns with their quarters.
  const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
  const int32_t* sums = (*t.narrow_sums)[side][begin];
  const PixelPlace* place = t.places[side] + begin;
  const int64_t pixel_bytes = codes.pixel_bytes;
  const float* const residual = t.residual;
  const int64_t outputs = t.outputs;
  uint8_t* to = codes.codes + (t.pixel[side] + begin) * pixel_bytes + t.first;
  for (; begin < end; ++begin, sums += kMatrixBlock, ++place, to += pixel_bytes) {
    __m512i twice[2];
    HETJAX_UNROLL for (int h = 0; h < 2; ++h) {
      __m512 y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(Load512(sums + 16 * h)), scale[h], bias[h]);
      if (kResidual) {
        y = _mm512_add_ps(y, _mm512_loadu_ps(residual + place->pixel * outputs + 16 * h));
      }
      // NaN stays, and becomes a negative number as those below zero.
      twice[h] = _mm512_cvttps_epi32(_mm512_min_ps(caps[h], _mm512_mul_ps(y, steps[h])));
    }
    const __m512i both = _mm512_packus_epi32(twice[0], twice[1]);
    const __m512i rounded = _mm512_avg_epu16(both, _mm512_setzero_si512());
    Store(to, _mm512_cvtepi16_epi8(_mm512_permutexvar_epi64(order, rounded)));
  }
}

// Packs the codes of pixels that are complete.
void PackPixels(const MatrixTile& t, int side, int32_t begin, int32_t end) {
  const PixelPlace* places = t.places[side];
  while (begin < end) {
    // Of pixels side by side in a row.
    int32_t next = begin + 1;
    while (next < end && places[next].pixel == places[next - 1].pixel + 1) ++next;
    for (int64_t k = 0; k < t.num_codes; ++k) {
      const MatrixCodes& c = t.codes[k];
      Pack512(*c.channels, c.codes + (t.pixel[side] + begin) * c.pixel_bytes, next - begin,
              c.pixel_bytes, nullptr, c.records + places[begin].pixel * c.record_bytes,
              c.record_bytes);
    }
    begin = next;
  }
}

// The work between products, some at a time.
class Worker {
 public:
  // Of so many turns.
  Worker(const MatrixWork& work, int64_t turns) : t_(work.finished), unpacked_(work.unpacked) {
    steps_ = work.steps;
    turns_ = turns;
    if (t_ == nullptr) return;
    for (int side = 0; side < t_->pieces; ++side) left_ += t_->pixels - t_->begin[side];
    each_ = static_cast<int32_t>((left_ + turns - 1) / turns);
    pixel_ = t_->begin[0];
    const bool is_ragged = t_->lanes < kMatrixBlock;
    if (IsPlain(*t_)) {
      finish_ = t_->residual == nullptr ? FinishPlainPixels<false> : FinishPlainPixels<true>;
    } else if (t_->wide.runs > 0) {
      finish_ = is_ragged ? FinishPixels<true, true> : FinishPixels<true, false>;
    } else {
      finish_ = is_ragged ? FinishPixels<false, true> : FinishPixels<false, false>;
    }
  }

  HETJAX_INLINE void Turn() {
    if (left_ > 0) Finish(each_);
    for (share_ += steps_; share_ >= turns_; share_ -= turns_) UnpackStep(unpacked_);
  }

 private:
  void Finish(int32_t pixels) {
    if (pixels > left_) pixels = left_;
    left_ -= pixels;
    while (pixels > 0) {
      if (pixel_ == t_->pixels) pixel_ = t_->begin[++side_];
      const int32_t here = pixels < t_->pixels - pixel_ ? pixels : t_->pixels - pixel_;
      finish_(*t_, side_, pixel_, pixel_ + here);
      if (t_->is_last) PackPixels(*t_, side_, pixel_, pixel_ + here);
      pixel_ += here;
      pixels -= here;
    }
  }

  const MatrixTile* const t_;
  void (*finish_)(const MatrixTile&, int, int32_t, int32_t) = nullptr;
  int side_ = 0;
  int32_t pixel_ = 0, left_ = 0, each_ = 0;
  PackedMatrix* const unpacked_;
  int64_t steps_, turns_, share_ = 0;
};

// After every step it is the worker's turn.
template <int kCount>
HETJAX_INLINE void Multiply(const MatrixOperand& x, MatrixSums* sums, Worker* worker) {
  _tile_zero(0);
  _tile_zero(1);
  if (kCount == 2) {
    _tile_zero(2);
    _tile_zero(3);
  }
  const uint8_t* w = x.weights;
  const size_t pixel_bytes = static_cast<size_t>(x.pixel_bytes);
  for (int64_t r = 0; r < x.runs; ++r) {
    const uint8_t* a = x.first[0] + r * x.run_bytes;
    const uint8_t* b = x.first[1] + r * x.run_bytes;
    for (int64_t s = 0; s < x.steps; ++s, w += kStepBytes) {
      _tile_loadd(6, w, 64);
      _tile_loadd(7, w + kStepBytes / 2, 64);
      _tile_loadd(4, a + s * kStepCodes, pixel_bytes);
      _tile_dpbusd(0, 4, 6);
      _tile_dpbusd(1, 4, 7);
      if (kCount == 2) {
        _tile_loadd(5, b + s * kStepCodes, pixel_bytes);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
      }
      worker->Turn();
    }
  }
  _tile_stored(0, &(*sums)[0][0][0], kSumBytes);
  _tile_stored(1, &(*sums)[0][0][16], kSumBytes);
  if (kCount == 2) {
    _tile_stored(2, &(*sums)[1][0][0], kSumBytes);
    _tile_stored(3, &(*sums)[1][0][16], kSumBytes);
  }
}

void MultiplyPieces(int32_t pieces, const MatrixOperand& x, MatrixSums* sums, Worker* worker) {
  if (x.runs == 0) return;
  if (pieces == 2) {
    Multiply<2>(x, sums, worker);
  } else {
    Multiply<1>(x, sums, worker);
  }
}

void Run(const MatrixTile* multiplied, const MatrixWork& meanwhile) {
  if (multiplied == nullptr) return Worker(meanwhile, 1).Turn();
  const MatrixTile& t = *multiplied;
  Worker worker(meanwhile, t.narrow.runs * t.narrow.steps + t.wide.runs * t.wide.steps);
  MultiplyPieces(t.pieces, t.narrow, t.narrow_sums, &worker);
  MultiplyPieces(t.pieces, t.wide, t.wide_sums, &worker);
}

constexpr MatrixKernels kMatrixKernels = {Begin, End, Run};

}  // namespace

const Kernels* AmxKernels() {
  static const Kernels kernels = [] {
    Kernels k = *Avx512VnniKernels();
    k.name = "amx";
    k.format = MatrixFormat;
    k.tile = k.wide_tile = kPiece;
    k.expand[0] = ExpandOnes;
    k.expand[1] = ExpandTwos;
    k.expand[2] = ExpandFours;
    k.expand[3] = ExpandEights;
    k.matrix = &kMatrixKernels;
    k.others = Avx512VnniKernels;
    return k;
  }();
  return &kernels;
}

}  // namespace hetjax
