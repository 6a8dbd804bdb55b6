#include "matrix_task.h"

#include <algorithm>
#include <cstring>

namespace hetjax {
namespace {

// Shorter pieces leave the instructions waiting for weights; bringing pixels together then costs less.
constexpr int64_t kShortPiece = 12;

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

MatrixTask::MatrixTask(const Call& call, const Window& window, const ExpandedWindow& input,
                       bool packs, Carver* memory)
    : call_(call),
      window_(window),
      input_(input),
      columns_(window.column_end - window.column_begin) {
  const Layer& layer = call.layer;
  const int64_t rows = window.row_end - window.row_begin;
  const int64_t each = CeilDiv(columns_, CeilDiv(columns_, kPiece));
  gathers_ = input.x().dilation > 1 || (each < kShortPiece && rows > 1);
  const int64_t together = gathers_ ? rows * columns_ : columns_;
  pixels_ = static_cast<int32_t>(CeilDiv(together, CeilDiv(together, kPiece)));
  num_pieces_ = gathers_ ? PiecesOf(together) : rows * PiecesOf(columns_);
  pieces_ = memory->Take<Piece>(num_pieces_);
  places_ = memory->Take<PixelPlace>(rows * columns_);
  int64_t bytes[2] = {0, 0}, unpacked = 0;
  for (const MatrixGroup& group : layer.matrices) {
    bytes[0] = std::max(bytes[0], group.narrow.steps * layer.kernel_height * kStepCodes);
    bytes[1] = std::max(bytes[1], group.wide.steps * layer.kernel_height * kStepCodes);
    unpacked = std::max(unpacked, group.narrow.steps * layer.kernel_height * kStepBytes);
  }
  for (int w = 0; w < 2; ++w) {
    gathered_[w].pixel_bytes = bytes[w];
    gathered_[w].codes = memory->Take<uint8_t>(gathers_ ? together * bytes[w] : 0);
  }
  unpacked_ = memory->Take<uint8_t>(unpacked);
  sums_ = memory->Take<MatrixSums>(4);
  num_codes_ = packs ? static_cast<int64_t>(call.arguments.consumers.size()) : 0;
  codes_ = memory->Take<MatrixCodes>(num_codes_);
  for (int64_t i = 0; i < num_codes_; ++i) {
    const Consumer& consumer = call.arguments.consumers[static_cast<size_t>(i)];
    const int64_t pixel_bytes = consumer.quantizer->codes_bytes();
    uint8_t* codes = memory->Take<uint8_t>(rows * columns_ * pixel_bytes + kRowSlack);
    if (codes_ == nullptr) continue;
    codes_[i] = {&consumer.quantizer->channels(), 0, pixel_bytes, consumer.inv_beta,
                 consumer.quantizer->is_signed(), codes};
  }
}

void MatrixTask::SetPieces() {
  const int64_t rows = gathers_ ? 1 : window_.row_end - window_.row_begin;
  const int64_t row_pixels = gathers_ ? window_.pixels() : columns_;
  Piece* piece = pieces_;
  for (int64_t y = 0; y < rows; ++y) {
    for (int64_t x = 0; x < row_pixels; x += pixels_, ++piece) {
      // The last piece of a row begins early enough to be a whole one.
      const int64_t first = std::min(x, row_pixels - pixels_);
      piece->first = y * row_pixels + first;
      piece->begin = static_cast<int32_t>(x - first);
      piece->position = gathers_ ? 0 : input_.Position(y, first);
    }
  }
}

void MatrixTask::SetPlaces() {
  const Layer& layer = call_.layer;
  PixelPlace* place = places_;
  for (int64_t y = window_.row_begin; y < window_.row_end; ++y) {
    const int64_t row = (window_.image * call_.height + y) * call_.width;
    const int32_t row_class = call_.rows.of[static_cast<size_t>(y)];
    const int64_t constants = call_.constants.Of(row_class, 0) - call_.constants.Of(0, 0);
    for (int64_t x = window_.column_begin; x < window_.column_end; ++x, ++place) {
      place->constants =
          constants + call_.columns.of[static_cast<size_t>(x)] * call_.constants.size();
      place->residual = (row + x) * layer.outputs;
      place->out = (row + x) * layer.outputs;
    }
  }
}

// Every pixel's rows of taps, one after another in whole steps.
void MatrixTask::Gather(int64_t group) {
  const Layer& layer = call_.layer;
  const MatrixGroup& matrix = layer.matrices[static_cast<size_t>(group)];
  for (const bool is_wide : {false, true}) {
    const MatrixPart& part = is_wide ? matrix.wide : matrix.narrow;
    const int64_t step_bytes = part.steps * kStepCodes;
    const uint8_t* from = input_.Matrix(group, is_wide);
    const int64_t row_bytes = input_.x().size() * part.channels;
    uint8_t* to = gathered_[is_wide].codes;
    for (int64_t y = 0; y < window_.row_end - window_.row_begin; ++y) {
      for (int64_t x = 0; x < columns_; ++x, to += gathered_[is_wide].pixel_bytes) {
        const uint8_t* pixel = from + input_.Position(y, x) * part.channels;
        for (int64_t r = 0; r < layer.kernel_height; ++r) {
          for (int64_t s = 0; s < step_bytes; s += kStepCodes) {
            std::memcpy(to + r * step_bytes + s, pixel + r * row_bytes + s, kStepCodes);
          }
        }
      }
    }
  }
  group_ = group;
}

MatrixOperand MatrixTask::Operand(const MatrixPart& part, int64_t group, bool is_wide,
                                  const uint8_t* weights) const {
  MatrixOperand operand = {};
  if (part.channels == 0) return operand;
  operand.runs = call_.layer.kernel_height;
  operand.steps = part.steps;
  operand.codes = call_.layer.kernel_width * part.channels;
  operand.run_bytes = gathers_ ? part.steps * kStepCodes : input_.x().size() * part.channels;
  operand.pixel_bytes =
      gathers_ ? gathered_[is_wide].pixel_bytes : input_.x().stride * part.channels;
  operand.weights = weights;
  for (int side = 0; side < kPieces; ++side) {
    operand.first[side] = gathers_ ? gathered_[is_wide].codes : input_.Matrix(group, is_wide);
  }
  return operand;
}

void MatrixTask::RunBlock(int64_t block) {
  const Layer& layer = call_.layer;
  const ConvArguments& a = call_.arguments;
  const int64_t group = block / layer.blocks_per_group, within = block % layer.blocks_per_group;
  const MatrixGroup& matrix = layer.matrices[static_cast<size_t>(group)];
  const uint8_t* weights = a.weights + layer.block_storage(group, within);
  if (gathers_ && group != group_) Gather(group);
  call_.kernels.matrix->unpack({matrix.narrow.quads.data(),
                                static_cast<int64_t>(matrix.narrow.quads.size()),
                                layer.kernel_height, matrix.top, weights + matrix.narrow.weights,
                                unpacked_});
  MatrixTile tile = {};
  tile.pixels = pixels_;
  tile.lanes = static_cast<int32_t>(
      std::min(kMatrixBlock, layer.outputs_per_group - within * kMatrixBlock));
  tile.narrow = Operand(matrix.narrow, group, false, unpacked_);
  tile.wide = Operand(matrix.wide, group, true, weights + matrix.wide.weights);
  if (matrix.top != 0) tile.narrow_factor = Factor(layer, matrix.top, a.is_signed);
  tile.wide_factor = a.is_signed ? 2 : 1;
  const int64_t first = group * layer.outputs_per_group + within * kMatrixBlock;
  // Sums of unsigned codes are right as they are.
  if (a.is_signed) tile.constants = call_.constants.Of(0, 0) + call_.constants.Lane(group, within);
  alignas(64) float scale[kMatrixBlock] = {}, bias[kMatrixBlock] = {};
  if (a.scale != nullptr) {
    std::memcpy(scale, a.scale + first, 4 * static_cast<size_t>(tile.lanes));
    std::memcpy(bias, a.bias + first, 4 * static_cast<size_t>(tile.lanes));
    tile.scale = scale;
    tile.bias = bias;
    tile.activation = a.activation;
  }
  if (a.residual != nullptr) tile.residual = a.residual + first;
  if (a.out != nullptr) tile.out = static_cast<uint8_t*>(a.out) + 4 * first;
  for (int64_t i = 0; i < num_codes_; ++i) codes_[i].first = first;
  tile.num_codes = num_codes_;
  tile.codes = codes_;
  const MatrixOperand narrow = tile.narrow, wide = tile.wide;
  // One is finished while the other's products are computed.
  tile.narrow_sums = sums_;
  tile.wide_sums = sums_ + 1;
  MatrixTile tiles[2] = {tile, tile};
  tiles[1].narrow_sums += 2;
  tiles[1].wide_sums += 2;
  const MatrixTile* before = nullptr;
  for (int64_t p = 0; p < num_pieces_; p += kPieces) {
    MatrixTile& now = tiles[p / kPieces % 2];
    now.pieces = static_cast<int32_t>(std::min<int64_t>(kPieces, num_pieces_ - p));
    for (int side = 0; side < now.pieces; ++side) {
      const Piece& piece = pieces_[p + side];
      now.begin[side] = piece.begin;
      now.places[side] = places_ + piece.first;
      now.pixel[side] = piece.first;
      const int64_t narrow_at =
          gathers_ ? piece.first * narrow.pixel_bytes : piece.position * matrix.narrow.channels;
      const int64_t wide_at =
          gathers_ ? piece.first * wide.pixel_bytes : piece.position * matrix.wide.channels;
      now.narrow.first[side] = narrow.first[side] + narrow_at;
      now.wide.first[side] = wide.first[side] + wide_at;
    }
    call_.kernels.matrix->run(&now, before);
    before = &now;
  }
  call_.kernels.matrix->run(nullptr, before);
}

void MatrixTask::PackCodes() {
  for (int64_t i = 0; i < num_codes_; ++i) {
    const Consumer& consumer = call_.arguments.consumers[static_cast<size_t>(i)];
    const MatrixCodes& codes = codes_[i];
    for (int64_t y = window_.row_begin; y < window_.row_end; ++y) {
      const int64_t at = (window_.image * call_.height + y) * call_.width + window_.column_begin;
      const int64_t bytes = consumer.quantizer->layout().record_bytes;
      call_.kernels.matrix->pack(*codes.channels,
                                 codes.codes + (y - window_.row_begin) * columns_ * codes.pixel_bytes,
                                 columns_, codes.pixel_bytes, nullptr, consumer.records + at * bytes,
                                 bytes);
    }
  }
}

void MatrixTask::Run(int64_t begin, int64_t end) {
  SetPieces();
  SetPlaces();
  call_.kernels.matrix->begin(pixels_);
  for (int64_t block = begin; block < end; ++block) {
    RunBlock(block);
  }
  call_.kernels.matrix->end();
  PackCodes();
}

}  // namespace hetjax
