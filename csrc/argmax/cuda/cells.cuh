// The cells of a tile: which of them have one winner, and what a class must exceed in the others.
#pragma once

#include <cfloat>

#include "argmax/cuda/nodes.cuh"

namespace fcn_ext {
namespace argmax {

// Pruning is exact. Values are sums of products with weights >= 0, which never decrease under
// rounding when a score grows. So a class that is ahead or equal at all corners of a cell is
// nowhere behind. If it leads by this margin, which is more than all roundings of both values
// together (12 times 2^-24 of `largest`, the leader's largest corner; 2^-53 for double), it is
// strictly ahead at every pixel, and there is no tie that a lower class could win. The same holds
// for the mean of several leaders, which is rounded three times more: no pixel has all of them
// behind.
template <typename accumulate_t>
__device__ __forceinline__ accumulate_t rounding_margin(accumulate_t largest) {
  constexpr bool kDouble = std::is_same_v<accumulate_t, double>;
  constexpr auto kRelative = accumulate_t(kDouble ? 0x1p-49 : 0x1p-20);
  constexpr auto kSmallest = accumulate_t(kDouble ? DBL_MIN : FLT_MIN);
  return kRelative * largest + kSmallest;
}

// The nodes around a cell, by their numbers in the tile: corner k is k / 2 down and k % 2 across.
// In place of a node that the map does not have (`is_there`), its neighbor in the cell.
struct CellNodes {
  int at[4];
  bool is_there[4];

  template <typename accumulate_t>
  __device__ __forceinline__ CellNodes(const BilinearShape& shape, const ArgmaxTiles& tiles,
                                       const Tile<accumulate_t>& tile, int row, int column) {
    int y[2], x[2];
    bool y_is_there[2], x_is_there[2];
    const auto look = [](int64_t size, int first, int offset, int& to, bool& is_there) {
      const int last = static_cast<int>(size) - 1;
      to = smaller(larger(first + offset, 0), last) - first;
      is_there = to == offset;
    };
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      look(shape.y.input_size, tile.first_cell_y, row + k, y[k], y_is_there[k]);
      look(shape.x.input_size, tile.first_cell_x, column + k, x[k], x_is_there[k]);
    }
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      at[k] = (y[k / 2] << tiles.column_bits) + x[k % 2];
      is_there[k] = y_is_there[k / 2] && x_is_there[k % 2];
    }
  }
};

// The bounds of a mixed cell: a class that can win a pixel must exceed its bound at one corner at
// least. A bound is the mean there of the classes that are largest at the cell's nodes, minus what
// rounding may do. If that is infinite, the bound is NaN, which rules out no class.
template <typename accumulate_t>
__device__ __forceinline__ void find_bounds(const ArgmaxArgs& args, const Tile<accumulate_t>& tile,
                                            const CellNodes& nodes, accumulate_t* bounds) {
  const ArgmaxTiles& tiles = args.tiles;
  accumulate_t sum[4] = {}, largest = 0;
  const auto add_leaders = [&](const auto& score_of) {
#pragma unroll
    for (int leader = 0; leader < 4; ++leader) {
      const int32_t of_class = tile.best_class()[nodes.at[leader]];
      largest = of_class < 0 ? accumulate_t(NAN) : largest;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const accumulate_t score = score_of(larger(of_class, 0), nodes.at[k]);
        sum[k] += score;
        largest = larger_or_nan(largest, std::fabs(score));
      }
    }
  };
  if (tiles.stages == 1) {
    add_leaders(
        [&](int of_class, int node) { return tile.scores()[of_class * tiles.pitch + node]; });
  } else {
    add_leaders([&](int of_class, int node) {
      return score_at(args, tile, of_class, tile.first_cell_y + (node >> tiles.column_bits),
                      tile.first_cell_x + (node & (tiles.node_columns - 1)));
    });
  }
  const accumulate_t margin = rounding_margin(largest);
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const accumulate_t bound = sum[k] / 4 - margin;
    bounds[k] = !nodes.is_there[k]  ? accumulate_t(HUGE_VAL)
                : bound > -HUGE_VAL ? bound
                                    : accumulate_t(NAN);
  }
}

// Writes the winner of every cell that has one to all of its pixels, and lists the other cells as
// column + 64 * row, in the low 13 bits. kCareful is set if a node needs care; kGuarded, later, if
// a class that may win is -inf at a node, which may have weight zero.
constexpr uint16_t kCareful = 0x8000;
constexpr uint16_t kGuarded = 0x4000;
constexpr uint16_t kListed = 0x1fff;
constexpr int kListedRow = 64;

template <int band, typename accumulate_t>
__device__ __forceinline__ void classify_cells(const ArgmaxArgs& args,
                                               const Tile<accumulate_t>& tile) {
  const ArgmaxTiles& tiles = args.tiles;
  const int thread = static_cast<int>(threadIdx.x);
  const int row = thread >> tiles.column_bits, column = thread & (tiles.node_columns - 1);
  if (row >= tile.cell_rows() || column >= tile.cell_columns()) {
    return;
  }
  const CellNodes nodes(args.shape, tiles, tile, row, column);
  const int32_t winner = tile.best_class()[nodes.at[0]];
  accumulate_t best[4], largest = 0;
  bool one = true;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    best[k] = tile.best()[nodes.at[k]];
    largest = larger_or_nan(largest, std::fabs(best[k]));
    one = one && tile.best_class()[nodes.at[k]] == winner;
  }
  const accumulate_t margin = rounding_margin(largest);
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    one = one && tile.second()[nodes.at[k]] < best[k] - margin;
  }
  if (!one) {
    const int entry = atomicAdd(tile.mixed_count(), 1);
    tile.mixed()[entry] =
        static_cast<uint16_t>(row * kListedRow + column + (largest != largest ? kCareful : 0));
    find_bounds(args, tile, nodes, tile.bounds() + 4 * entry);
    return;
  }
  const int32_t *row_begin = tile.row_begin() + row, *column_begin = tile.column_begin() + column;
  const int y = row_begin[0] - tile.row_begin()[0], x = column_begin[0] - tile.column_begin()[0];
  const int rows = row_begin[1] - row_begin[0], columns = column_begin[1] - column_begin[0];
#pragma unroll 1
  for (int j = 0; j < rows; ++j) {
    uint16_t* const to = tile.labels() + tile.row_start()[y + j] + x;
#pragma unroll
    for (int i = 0; i < band; ++i) {
      if (i < columns) {
        to[i] = static_cast<uint16_t>(winner);
      }
    }
  }
}

}  // namespace argmax
}  // namespace fcn_ext
