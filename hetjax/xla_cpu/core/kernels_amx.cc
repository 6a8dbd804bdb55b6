// Kernels for processors that multiply matrices of bytes (AMX): see matrix.h. All else is as in
// kernels_avx512_vnni.cc.
#include "kernels.h"

#ifdef HETJAX_EMULATE_AVX512
#include "amx_emulated.h"
#include "avx512_emulated.h"
#else
#include <immintrin.h>
#endif

namespace hetjax {
namespace {

#include "kernels_common.inc"
#include "vectors_avx2.inc"
#include "encode_avx2.inc"
#include "kernels_avx512.inc"
#include "encode_avx512.inc"
#include "records_avx512.inc"
#include "unpack_matrix.inc"
#include "finish_matrix.inc"

// ---- Products.

struct Configuration {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};

// All that was written is in memory. GCC does not know that its instructions for matrices read any,
// so it may keep values in registers, or never write them.
HETJAX_INLINE void WriteAll(const void* last) {
#if defined(__GNUC__) && !defined(__clang__)
  asm volatile("" : : "r"(last) : "memory");
#else
  (void)last;
#endif
}

// Sums of both pieces and halves of outputs are matrices 0 to 3, codes 4 and 5, weights 6 and 7.
void Begin(int32_t pixels) {
  Configuration c;
  for (int i = 0; i < 8; ++i) {
    c.row_bytes[i] = 64;
    c.rows[i] = static_cast<uint8_t>(i < 6 ? pixels : 16);
  }
  WriteAll(&c);
  _tile_loadconfig(&c);
}

void End() { _tile_release(); }

constexpr int64_t kSumBytes = 4 * kMatrixBlock;

// Packs the codes of pixels that are complete.
void PackPixels(const MatrixTile& t, int side, int32_t begin, int32_t end) {
  const PixelPlace* places = t.places[side];
  while (begin < end) {
    // Of pixels side by side in a row.
    int32_t next = begin + 1;
    if (!places[begin].is_output) {
      begin = next;
      continue;
    }
    while (next < end && places[next].pixel == places[next - 1].pixel + 1) ++next;
    for (int64_t k = 0; k < t.num_codes; ++k) {
      const MatrixCodes& c = t.codes[k];
      Pack512(*c.channels, c.codes + (t.slot[side] + begin) * c.pixel_bytes, next - begin,
              c.pixel_bytes, nullptr, c.records + places[begin].pixel * c.record_bytes,
              c.record_bytes);
    }
    begin = next;
  }
}

using FinishFunction = void (*)(const MatrixTile&, int side, int32_t begin, int32_t end);

template <bool kPlainSums, bool kWide>
FinishFunction PlainFinisher(const MatrixTile& t) {
  if (t.out == nullptr && t.num_codes == 1) {
    return t.residual == nullptr ? FinishPlainPixels<true, false, kPlainSums, kWide>
                                 : FinishPlainPixels<true, true, kPlainSums, kWide>;
  }
  return t.residual == nullptr ? FinishPlainPixels<false, false, kPlainSums, kWide>
                               : FinishPlainPixels<false, true, kPlainSums, kWide>;
}

template <bool kWide>
FinishFunction FinisherOf(const MatrixTile& t) {
  if (!IsPlain(t)) return t.lanes < kMatrixBlock ? FinishPixels<kWide, true> : FinishPixels<kWide, false>;
  return HasPlainSums(t) ? PlainFinisher<true, false>(t) : PlainFinisher<false, kWide>(t);
}

FinishFunction Finisher(const MatrixTile& t) {
  return t.wide.runs > 0 ? FinisherOf<true>(t) : FinisherOf<false>(t);
}

// The work between products, some at a time.
class Worker {
 public:
  // Of so many turns.
  Worker(const MatrixWork& work, int64_t turns)
      : t_(work.finished), unpacked_(work.unpacked), steps_(work.steps), turns_(turns) {
    if (work.packed != nullptr && work.packed->is_last) packed_ = work.packed;
    if (t_ == nullptr) return;
    for (int side = 0; side < t_->pieces; ++side) left_ += t_->pixels - t_->begin[side];
    each_ = static_cast<int32_t>((left_ + turns - 1) / turns);
    pixel_ = t_->begin[0];
    finish_ = Finisher(*t_);
  }

  HETJAX_INLINE void Turn() {
    // In this order, see MatrixTask::BandTiles.
    if (packed_ != nullptr) Pack();
    if (left_ > 0) Finish(each_);
    for (share_ += steps_; share_ >= turns_; share_ -= turns_) UnpackStep(unpacked_);
  }

  // What is left, where there are few turns.
  void End() {
    while (packed_ != nullptr) Pack();
  }

 private:
  void Finish(int32_t pixels) {
    if (pixels > left_) pixels = left_;
    left_ -= pixels;
    while (pixels > 0) {
      if (pixel_ == t_->pixels) pixel_ = t_->begin[++side_];
      const int32_t here = pixels < t_->pixels - pixel_ ? pixels : t_->pixels - pixel_;
      finish_(*t_, side_, pixel_, pixel_ + here);
      pixel_ += here;
      pixels -= here;
    }
  }

  // A piece.
  void Pack() {
    PackPixels(*packed_, packed_side_, packed_->begin[packed_side_], packed_->pixels);
    if (++packed_side_ == packed_->pieces) packed_ = nullptr;
  }

  const MatrixTile* packed_ = nullptr;
  int packed_side_ = 0;
  const MatrixTile* const t_;
  FinishFunction finish_ = nullptr;
  int side_ = 0;
  int32_t pixel_ = 0, left_ = 0, each_ = 0;
  PackedMatrix* const unpacked_;
  const int64_t steps_, turns_;
  int64_t share_ = 0;
};

// After every step it is the worker's turn.
template <int kCount>
HETJAX_INLINE void Multiply(const MatrixOperand& x, MatrixSums* sums, Worker* worker) {
  WriteAll(x.weights);
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
    const uint8_t* b = kCount == 2 ? x.first[1] + r * x.run_bytes : nullptr;
    for (int64_t s = 0; s < x.steps; ++s, w += kStepBytes) {
      // Of the orders in which all can be loaded and multiplied this is the fastest.
      _tile_loadd(4, a + s * kStepCodes, pixel_bytes);
      _tile_loadd(6, w, 64);
      _tile_dpbusd(0, 4, 6);
      if (kCount == 2) {
        _tile_loadd(5, b + s * kStepCodes, pixel_bytes);
        _tile_dpbusd(2, 5, 6);
      }
      _tile_loadd(7, w + kStepBytes / 2, 64);
      _tile_dpbusd(1, 4, 7);
      if (kCount == 2) _tile_dpbusd(3, 5, 7);
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
  if (multiplied == nullptr) {
    Worker worker(meanwhile, 1);
    worker.Turn();
    return worker.End();
  }
  const MatrixTile& t = *multiplied;
  Worker worker(meanwhile, t.narrow.runs * t.narrow.steps + t.wide.runs * t.wide.steps);
  MultiplyPieces(t.pieces, t.narrow, t.narrow_sums, &worker);
  MultiplyPieces(t.pieces, t.wide, t.wide_sums, &worker);
  worker.End();
}

constexpr MatrixKernels kMatrixKernels = {Begin, End, ExpandCodes, SumCodes, Run};

}  // namespace

const Kernels* AmxKernels() {
  static const Kernels kernels = [] {
    Kernels k = *Avx512VnniKernels();
    k.name = "amx";
    k.format = MatrixFormat;
    k.tile = k.wide_tile = kPiece;
    k.matrix = &kMatrixKernels;
    k.others = Avx512VnniKernels;
    return k;
  }();
  return &kernels;
}

}  // namespace hetjax
