// The pixels of a cell that a thread computes at once: their places, weights and logits.
#pragma once

#include "argmax/cuda/tile.cuh"

namespace fcn_ext {
namespace argmax {

// Where the pixels of thread `part` of a cell lie in the tile.
template <typename accumulate_t, int band>
struct PixelPlace {
  using Threads = CellThreads<band>;

  int row, column;    // of the cell
  int y, x;           // of the first pixel
  int rows, columns;  // from there to the cell's end: maybe more than a thread has, or none

  __device__ __forceinline__ PixelPlace(const Tile<accumulate_t>& tile, int cell_row,
                                        int cell_column, int part)
      : row(cell_row), column(cell_column) {
    const int32_t *row_begin = tile.row_begin(), *column_begin = tile.column_begin();
    y = row_begin[row] - row_begin[0] + part / Threads::kAcross * Threads::kRows;
    x = column_begin[column] - column_begin[0] + part % Threads::kAcross * Threads::kColumns;
    rows = row_begin[row + 1] - row_begin[0] - y;
    columns = column_begin[column + 1] - column_begin[0] - x;
  }
  __device__ __forceinline__ bool empty() const { return rows <= 0 || columns <= 0; }
};

// The logits of those pixels, class by class, from the staged scores of their nodes.
template <typename accumulate_t, int band>
class PixelLogits {
  using Threads = CellThreads<band>;
  static constexpr int kRows = Threads::kRows, kColumns = Threads::kColumns;

 public:
  __device__ __forceinline__ PixelLogits(const ArgmaxTiles& tiles, const Tile<accumulate_t>& tile,
                                         const PixelPlace<accumulate_t, band>& place)
      : pitch_(tiles.pitch) {
    above_ = tile.scores() + (place.row << tiles.column_bits) + place.column;
    below_ = above_ + tiles.node_columns;
#pragma unroll
    for (int j = 0; j < kRows; ++j) {
      y_[j] = tile.row_weight()[place.y + (j < place.rows ? j : 0)];
    }
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      x_[i] = tile.column_weight()[place.x + (i < place.columns ? i : 0)];
    }
  }

  // Runs body(column, row, logit) for every pixel. `guarded`: scores of weight zero are not read,
  // so that an infinity does not become NaN.
  template <bool guarded, typename Body>
  __device__ __forceinline__ void each(int staged_class, const Body& body) const {
    const accumulate_t* above = above_ + staged_class * pitch_;
    const accumulate_t* below = below_ + staged_class * pitch_;
    const accumulate_t a = above[0], b = above[1], c = below[0], d = below[1];
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
      const accumulate_t left = x_[i].lower, right = x_[i].upper;
      const accumulate_t top = left * seen<guarded>(a, left) + right * seen<guarded>(b, right);
      const accumulate_t bottom = left * seen<guarded>(c, left) + right * seen<guarded>(d, right);
#pragma unroll
      for (int j = 0; j < kRows; ++j) {
        const accumulate_t lower = y_[j].lower, upper = y_[j].upper;
        body(i, j, lower * seen<guarded>(top, lower) + upper * seen<guarded>(bottom, upper));
      }
    }
  }

  // The logit of one class at one pixel.
  template <bool guarded>
  __device__ __forceinline__ accumulate_t at(int staged_class, int i, int j) const {
    const accumulate_t* above = above_ + staged_class * pitch_;
    const accumulate_t* below = below_ + staged_class * pitch_;
    const accumulate_t left = x_[i].lower, right = x_[i].upper;
    const accumulate_t lower = y_[j].lower, upper = y_[j].upper;
    const accumulate_t top =
        left * seen<guarded>(above[0], left) + right * seen<guarded>(above[1], right);
    const accumulate_t bottom =
        left * seen<guarded>(below[0], left) + right * seen<guarded>(below[1], right);
    return lower * seen<guarded>(top, lower) + upper * seen<guarded>(bottom, upper);
  }

 private:
  template <bool guarded>
  __device__ __forceinline__ static accumulate_t seen(accumulate_t score, accumulate_t weight) {
    return guarded && weight == 0 ? accumulate_t(0) : score;
  }

  int pitch_;
  const accumulate_t *above_, *below_;
  CellWeights<accumulate_t> y_[kRows], x_[kColumns];
};

}  // namespace argmax
}  // namespace fcn_ext
