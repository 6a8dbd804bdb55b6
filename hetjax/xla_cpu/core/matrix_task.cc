#include "matrix_task.h"

#include <algorithm>
#include <cstring>

#include "rounding.h"

namespace hetjax {
namespace {

// What a band of tiles reads and writes of outputs, and the unpacked weights that bands may share.
constexpr int64_t kBandBytes = 64 << 10, kMostBandWeights = 512 << 10;

}  // namespace

MatrixTask::MatrixTask(const Call& call, const Window& window, const ExpandedWindow& input,
                       bool packs, Carver* memory)
    : call_(call),
      window_(window),
      input_(input),
      lines_(window, input, memory) {
  const Layer& layer = call.layer;
  int64_t bytes[2] = {0, 0};
  for (const MatrixGroup& group : layer.matrices) {
    bytes[0] = std::max(bytes[0], group.narrow.steps * layer.kernel_height * kStepCodes);
    bytes[1] = std::max(bytes[1], group.wide.steps * layer.kernel_height * kStepCodes);
  }
  for (int w = 0; w < 2; ++w) {
    gathered_[w].pixel_bytes = bytes[w];
    gathered_[w].codes = memory->Take<uint8_t>(lines_.gathers ? lines_.line_pixels * bytes[w] : 0);
  }
  code_sums_ = memory->Take<int32_t>(bytes[1] > 0 ? lines_.all() : 0);
  unpacked_bytes_ = bytes[0] / kStepCodes * kStepBytes;
  tiles_ = CeilDiv(lines_.num_pieces, kPieces);
  band_tiles_ = BandTiles(packs);
  blocks_kept_ = band_tiles_ < tiles_ ? layer.blocks_per_group : 2;
  unpacked_ = memory->Take<uint8_t>(blocks_kept_ * unpacked_bytes_);
  sums_ = memory->Take<MatrixSums>(4);
  blocks_ = memory->Take<Block>(blocks_kept_);
  num_codes_ = packs ? static_cast<int64_t>(call.arguments.consumers.size()) : 0;
  codes_ = memory->Take<MatrixCodes>(num_codes_);
  const int64_t slots =
      band_tiles_ < tiles_ ? band_tiles_ * kPieces * lines_.pixels : lines_.all();
  for (int64_t i = 0; i < num_codes_; ++i) {
    const Consumer& consumer = call.arguments.consumers[static_cast<size_t>(i)];
    uint8_t* codes =
        memory->Take<uint8_t>(slots * consumer.quantizer->codes_bytes() + kRowSlack);
    if (codes_ != nullptr) codes_[i] = CodesOf(consumer, codes);
  }
}

// Tiles of which all blocks are computed before those of the next ones are: as many as there are
// unless what is read and written of their outputs, a part of every pixel's by each block, would
// leave the cache meanwhile.
int64_t MatrixTask::BandTiles(bool packs) const {
  const Layer& layer = call_.layer;
  const ConvArguments& a = call_.arguments;
  const int64_t consumers = packs ? static_cast<int64_t>(a.consumers.size()) : 0;
  const int64_t tensors = (a.residual != nullptr) + (a.out != nullptr && a.out != a.residual);
  const int64_t tile_bytes = kPieces * lines_.pixels * layer.outputs * (4 * tensors + consumers);
  // Weights are then kept for all of them, and read again for every band.
  const int64_t weights = layer.blocks_per_group * unpacked_bytes_;
  if (layer.groups > 1 || layer.blocks_per_group == 1 || weights > kMostBandWeights) return tiles_;
  // While a band's first tile is finished the last one of the band before is packed. Their slots
  // may overlap by less than a piece: Worker::Turn packs a tile's first piece before it finishes
  // any.
  return std::min(tiles_, std::max<int64_t>(2, kBandBytes / tile_bytes));
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
    const int64_t rows = window_.row_end - window_.row_begin;
    const int64_t columns = window_.column_end - window_.column_begin;
    uint8_t* to = gathered_[is_wide].codes;
    for (int64_t y = 0; y < rows; ++y) {
      for (int64_t x = 0; x < columns; ++x, to += gathered_[is_wide].pixel_bytes) {
        const uint8_t* pixel = from + input_.Position(y, x) * part.channels;
        for (int64_t r = 0; r < layer.kernel_height; ++r) {
          for (int64_t s = 0; s < step_bytes; s += kStepCodes) {
            std::memcpy(to + r * step_bytes + s, pixel + r * row_bytes + s, kStepCodes);
          }
        }
      }
    }
  }
}

// Of every pixel the sum of its wide codes.
void MatrixTask::SumCodes(int64_t group) {
  const MatrixPart& part = call_.layer.matrices[static_cast<size_t>(group)].wide;
  MatrixOperand operand = Operand(part, true);
  const uint8_t* codes = lines_.gathers ? gathered_[1].codes : input_.Matrix(group, true);
  for (int64_t line = 0; line < lines_.lines; ++line) {
    operand.first[0] =
        codes + (lines_.gathers ? 0 : input_.Position(line, 0) * part.channels);
    call_.kernels.matrix->sum(operand, lines_.line_pixels, code_sums_ + line * lines_.line_pixels);
  }
}

// Whether blocks of the group share what those of the group before do not.
bool MatrixTask::IsOtherGroup(int64_t group) const {
  const bool has_sums = call_.layer.matrices[static_cast<size_t>(group)].wide.channels > 0;
  return group != group_ && (lines_.gathers || has_sums);
}

// What blocks of a group share. No tile is under way that still reads another's.
void MatrixTask::SetGroup(int64_t group) {
  group_ = group;
  if (lines_.gathers) Gather(group);
  if (call_.layer.matrices[static_cast<size_t>(group)].wide.channels > 0) SumCodes(group);
}

MatrixOperand MatrixTask::Operand(const MatrixPart& part, bool is_wide) const {
  MatrixOperand operand = {};
  if (part.channels == 0) return operand;
  operand.runs = call_.layer.kernel_height;
  operand.steps = part.steps;
  operand.codes = call_.layer.kernel_width * part.channels;
  operand.run_bytes = lines_.gathers ? part.steps * kStepCodes : input_.x().size() * part.channels;
  operand.pixel_bytes =
      lines_.gathers ? gathered_[is_wide].pixel_bytes : input_.x().stride * part.channels;
  return operand;
}

const uint8_t* MatrixTask::Weights(int64_t block) const {
  const Layer& layer = call_.layer;
  return call_.arguments.weights + layer.block_storage(block / layer.blocks_per_group,
                                                       block % layer.blocks_per_group);
}

PackedMatrix MatrixTask::Packed(int64_t block) const {
  const MatrixGroup& group = GroupOf(block);
  PackedMatrix packed = {};
  packed.runs = group.narrow.quads.data();
  packed.num_runs = static_cast<int64_t>(group.narrow.quads.size());
  packed.top = group.top;
  packed.packed = Weights(block) + group.narrow.weights;
  packed.unpacked = unpacked_ + block % blocks_kept_ * unpacked_bytes_;
  return packed;
}

// What follows from the block alone.
void MatrixTask::SetBlock(int64_t block, bool is_last, Block* to) {
  const Layer& layer = call_.layer;
  const ConvArguments& a = call_.arguments;
  const MatrixGroup& matrix = GroupOf(block);
  const int64_t group = block / layer.blocks_per_group, within = block % layer.blocks_per_group;
  MatrixTile& tile = to->tile;
  tile = {};
  tile.pixels = lines_.pixels;
  tile.lanes = static_cast<int32_t>(
      std::min(kMatrixBlock, layer.outputs_per_group - within * kMatrixBlock));
  tile.narrow = Operand(matrix.narrow, false);
  tile.wide = Operand(matrix.wide, true);
  tile.narrow.weights = unpacked_ + block % blocks_kept_ * unpacked_bytes_;
  tile.wide.weights = Weights(block) + matrix.wide.weights;
  to->narrow = lines_.gathers ? gathered_[0].codes : input_.Matrix(group, false);
  to->wide = lines_.gathers ? gathered_[1].codes : input_.Matrix(group, true);
  if (matrix.top != 0) tile.narrow_factor = Factor(layer, matrix.top, a.is_signed);
  tile.wide_factor = a.is_signed ? 2 : 1;
  tile.code_sums = code_sums_;
  tile.first = group * layer.outputs_per_group + within * kMatrixBlock;
  tile.outputs = layer.outputs;
  tile.num_codes = num_codes_;
  tile.codes = codes_;
  tile.is_last = is_last && num_codes_ > 0;
  // Sums of unsigned codes are right as they are.
  if (a.is_signed) tile.constants = call_.constants.Of(0, 0) + call_.constants.Lane(group, within);
  if (a.scale != nullptr) {
    const size_t bytes = 4 * static_cast<size_t>(tile.lanes);
    std::memset(to->scale, 0, sizeof(to->scale));
    std::memset(to->bias, 0, sizeof(to->bias));
    std::memcpy(to->scale, a.scale + tile.first, bytes);
    std::memcpy(to->bias, a.bias + tile.first, bytes);
    tile.scale = to->scale;
    tile.bias = to->bias;
    tile.activation = a.activation;
  }
  if (a.residual != nullptr) tile.residual = a.residual + tile.first;
  if (a.out != nullptr) tile.out = static_cast<uint8_t*>(a.out) + 4 * tile.first;
}

void MatrixTask::SetPiece(const Block& block, const MatrixGroup& group, int64_t number, int side,
                          MatrixTile* tile) const {
  const MatrixLines::Piece& piece = lines_.pieces[number];
  tile->begin[side] = piece.begin;
  tile->places[side] = lines_.places + piece.first;
  tile->pixel[side] = piece.first;
  tile->slot[side] = piece.first - band_;
  const int64_t narrow = lines_.gathers ? piece.first * gathered_[0].pixel_bytes
                                  : piece.position * group.narrow.channels;
  const int64_t wide = lines_.gathers ? piece.first * gathered_[1].pixel_bytes
                                : piece.position * group.wide.channels;
  tile->narrow.first[side] = block.narrow + narrow;
  tile->wide.first[side] = block.wide + wide;
}

void MatrixTask::Run(int64_t begin, int64_t end) {
  const MatrixKernels& kernels = *call_.kernels.matrix;
  const auto steps = [this](int64_t block) {
    return GroupOf(block).narrow.steps * call_.layer.kernel_height;
  };
  lines_.Set(call_, window_, input_);
  kernels.begin(lines_.pixels);
  PackedMatrix packed = Packed(begin);
  kernels.run(nullptr, {nullptr, nullptr, &packed, steps(begin)});
  // While a tile is computed the one before is finished, the codes of the one before that are packed,
  // and some of the next block's weights are unpacked. (Codes are packed that late since they cannot
  // be read together soon after they were written apart.)
  MatrixTile ring[3];
  const MatrixTile *computed = nullptr, *finished = nullptr;
  const auto finish = [&] {
    kernels.run(nullptr, {finished, computed, nullptr, 0});
    kernels.run(nullptr, {computed, nullptr, nullptr, 0});
    computed = finished = nullptr;
  };
  int64_t number = 0;
  for (int64_t first = 0; first < tiles_; first += band_tiles_) {
    const int64_t last = std::min(tiles_, first + band_tiles_);
    band_ = lines_.pieces[kPieces * first].first;
    for (int64_t b = begin; b < end; ++b) {
      const int64_t group = b / call_.layer.blocks_per_group;
      if (IsOtherGroup(group)) {
        finish();
        SetGroup(group);
      }
      Block& block = blocks_[b % blocks_kept_];
      if (first == 0) SetBlock(b, b + 1 == end, &block);
      const int64_t next = first == 0 && b + 1 < end ? steps(b + 1) : 0;
      if (next > 0) packed = Packed(b + 1);
      for (int64_t k = first; k < last; ++k, ++number) {
        MatrixTile& tile = ring[number % 3];
        if (k < first + 3) tile = block.tile;
        tile.narrow_sums = sums_ + 2 * (number % 2);
        tile.wide_sums = tile.narrow_sums + 1;
        tile.pieces =
            static_cast<int32_t>(std::min<int64_t>(kPieces, lines_.num_pieces - kPieces * k));
        for (int side = 0; side < tile.pieces; ++side) {
          SetPiece(block, GroupOf(b), kPieces * k + side, side, &tile);
        }
        // Of the first band.
        const int64_t unpacks = next * (k + 1) / last - next * k / last;
        kernels.run(&tile, {finished, computed, &packed, unpacks});
        finished = computed;
        computed = &tile;
      }
    }
  }
  finish();
  kernels.end();
}

}  // namespace hetjax
