// Where labels go: to memory, in vectors, or with a target into a confusion matrix.
//
// Lanes take pieces of kPiece neighboring pixels that start where the memory of the row is
// aligned.
#pragma once

#include "argmax/cuda/tile.cuh"
#include "common/cuda/labels.cuh"
#include "confusion_matrix/cuda/counter.cuh"
#include "confusion_matrix/cuda/pixel_rows.cuh"

namespace fcn_ext {
namespace argmax {

constexpr int kPiece = 8;
constexpr int64_t kMostPixelsOfBlock = int64_t{1} << 30;  // so that a 32-bit bin cannot overflow

// One of both: `labels` is dense (N, H, W) of a type as LabelMap's, or null.
struct ArgmaxOutput {
  void* labels;
  int type;
  LabelMap target;
  confusion::Counts counts;
};

// Predictions of pixels [x, x + kPiece) of a row of the tile, of which those inside it count.
template <typename accumulate_t>
__device__ __forceinline__ void load_piece(const ArgmaxTiles& tiles, const Tile<accumulate_t>& tile,
                                           int row, int x, int columns,
                                           uint32_t (&labels)[kPiece]) {
  const int begin = larger(x, 0), end = smaller(x + kPiece, columns);
  const int32_t* winners = tile.winner() + tile.row_cell()[row] * tiles.cell_columns;
  int cell = tile.column_cell()[begin];
  const int last = tile.column_cell()[end - 1];
  const int32_t winner = winners[cell];
  bool one = winner != kMixed;
#pragma unroll 1
  while (cell < last) {
    one = winners[++cell] == winner && one;
  }
#pragma unroll
  for (int k = 0; k < kPiece; ++k) {
    labels[k] = static_cast<uint32_t>(winner) & 0xffff;
    if (!one && x + k >= begin && x + k < end) {
      const int32_t of_cell = winners[tile.column_cell()[x + k]];
      labels[k] = of_cell != kMixed
                      ? static_cast<uint32_t>(of_cell)
                      : tile.labels()[row * (tiles.cell_columns * tiles.band) + x + k];
    }
  }
}

// Labels of pixels [x, x + kPiece) of a row, of which those inside it are stored.
template <typename label_t>
__device__ __forceinline__ void store_piece_as(label_t* row, int x, int columns,
                                               const uint32_t (&labels)[kPiece]) {
  constexpr int kWhole = 16 / static_cast<int>(sizeof(label_t));
  constexpr int kVector = kWhole < kPiece ? kWhole : kPiece;
  if (x >= 0 && x + kPiece <= columns) {
#pragma unroll
    for (int v = 0; v < kPiece; v += kVector) {
      Vector<label_t, kVector> vector;
#pragma unroll
      for (int k = 0; k < kVector; ++k) {
        vector.values[k] = static_cast<label_t>(labels[v + k]);
      }
      store_vector_streamed(row + x + v, vector);
    }
    return;
  }
#pragma unroll
  for (int k = 0; k < kPiece; ++k) {
    if (x + k >= 0 && x + k < columns) {
      row[x + k] = static_cast<label_t>(labels[k]);
    }
  }
}

__device__ __forceinline__ void store_piece(void* labels, int type, int64_t row, int x, int columns,
                                            const uint32_t (&piece)[kPiece]) {
  with_labels(labels, type, [&](auto* map) { store_piece_as(map + row, x, columns, piece); });
}

// Counts pixels [x, x + kPiece) of a row with targets from `offset` on; those outside are ignored.
__device__ __forceinline__ void count_piece(const ArgmaxOutput& output,
                                            const confusion::Counter& counter, int64_t offset,
                                            int x, int columns, uint32_t (&piece)[kPiece]) {
  const LabelMap& target = output.target;
  const confusion::MapRows map{target.data, target.type, 0, 0, target.stride[2]};
  uint32_t targets[kPiece];
  if (map.column == 1) {
    confusion::load_labels(map, offset, x, columns, output.counts.ignore_index, targets);
  } else {
#pragma unroll
    for (int k = 0; k < kPiece; ++k) {
      uint32_t one[1];
      confusion::load_labels(map, offset, x + k, columns, output.counts.ignore_index, one);
      targets[k] = one[0];
    }
  }
#pragma unroll
  for (int k = 0; k < kPiece; ++k) {
    piece[k] |= targets[k] << 16;
  }
  confusion::count_runs(counter, piece);
}

// Stores or counts the labels of a tile; all threads go together.
template <typename accumulate_t>
__device__ __forceinline__ void emit_tile(const ArgmaxArgs& args, const ArgmaxOutput& output,
                                          const Tile<accumulate_t>& tile,
                                          const confusion::Counter& counter) {
  const bool storing = output.labels != nullptr;
  const int rows = tile.rows(), columns = tile.columns();
  const int pieces = (columns + 2 * kPiece - 2) / kPiece;
  // Rows as the memory has them in which pieces are to be aligned.
  const int64_t width = args.shape.x.output_size;
  const LabelMap& target = output.target;
  const confusion::MapRows map{storing ? output.labels : target.data,
                               storing ? output.type : target.type, 0, 0, 0};
  const int64_t row_stride = storing ? width : target.stride[1];
  const int64_t start = static_cast<int64_t>(tile.image) *
                            (storing ? args.shape.y.output_size * width : target.stride[0]) +
                        tile.row_begin()[0] * row_stride +
                        tile.column_begin()[0] * (storing ? 1 : target.stride[2]);
  const int vector = smaller(kPiece, 16 >> map.type);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int base = static_cast<int>(threadIdx.x) - lane; base < rows * pieces; base += kThreads) {
    const int row = (base + lane) / pieces;
    const int64_t offset = start + row * row_stride;
    int x = (base + lane) % pieces * kPiece - confusion::labels_past_boundary(map, offset) % vector;
    uint32_t piece[kPiece] = {};
    if (row < rows && x < columns) {
      load_piece(args.tiles, tile, row, x, columns, piece);
      if (storing) {
        store_piece(output.labels, output.type, offset, x, columns, piece);
      }
    } else {
      x = columns;
    }
    if (!storing) {
      count_piece(output, counter, offset, x, columns, piece);
    }
  }
}

}  // namespace argmax
}  // namespace fcn_ext
