// The nodes of a tile, and the cells between them that have one winner.
#pragma once

#include <cfloat>
#include <cmath>

#include "argmax/cuda/tile.cuh"

namespace fcn_ext {
namespace argmax {

// Scores up to here are added and weighted without overflow: no NaN comes of them.
template <typename accumulate_t>
constexpr accumulate_t kLargestScore =
    accumulate_t(std::is_same_v<accumulate_t, double> ? 0x1p1022 : 0x1p126);

// Pruning is exact. Values are sums of products with weights >= 0, which never decrease under
// rounding when a score grows, so that a class which leads by nothing or more at all corners of a
// cell is nowhere behind; leading by this margin, more than all roundings of both values together
// (12 times 2^-24 of `largest`, the leader's largest corner; 2^-53 for double), it is strictly
// ahead at every pixel, and no tie is left that a lower class could win.
template <typename accumulate_t>
__device__ __forceinline__ accumulate_t rounding_margin(accumulate_t largest) {
  constexpr bool kDouble = std::is_same_v<accumulate_t, double>;
  constexpr auto kRelative = accumulate_t(kDouble ? 0x1p-49 : 0x1p-20);
  constexpr auto kSmallest = accumulate_t(kDouble ? DBL_MIN : FLT_MIN);
  return kRelative * largest + kSmallest;
}

// Takes the staged classes into the two largest scores of every node. `best` becomes NaN, and
// stays it, at a node whose values need care: NaN or huge.
template <typename accumulate_t>
__device__ __forceinline__ void update_nodes(const ArgmaxTiles& tiles,
                                             const Tile<accumulate_t>& tile, int first_class,
                                             int classes) {
  for (int slot = static_cast<int>(threadIdx.x); slot < tiles.nodes * tiles.parts;
       slot += kThreads) {
    const int node = slot % tiles.nodes, part = slot / tiles.nodes;
    accumulate_t best = -HUGE_VAL, second = -HUGE_VAL;
    int32_t best_class = kMixed;
    if (first_class > 0) {
      best = tile.best()[slot];
      second = tile.second()[slot];
      best_class = tile.best_class()[slot];
    }
    bool plain = best == best;
    const accumulate_t* from = tile.scores() + part * tiles.pitch + node;
    const int step = tiles.parts * tiles.pitch;
#pragma unroll 4
    for (int c = first_class + part; c < first_class + classes; c += tiles.parts) {
      const accumulate_t value = *from;
      from += step;
      plain = plain && value < kLargestScore<accumulate_t>;
      best_class = value > best ? c : best_class;
      second = fmax(second, fmin(value, best));
      best = fmax(value, best);
    }
    tile.best()[slot] = plain ? best : accumulate_t(NAN);
    tile.second()[slot] = second;
    tile.best_class()[slot] = best_class;
  }
}

// Writes the winner of every cell that has one, and lists the others as column + 64 * row, in the
// low 13 bits. kCareful is set where a node needs care; kGuarded, later, where a class that may win
// is -inf at a node, which may have no weight.
constexpr uint16_t kCareful = 0x8000;
constexpr uint16_t kGuarded = 0x4000;
constexpr uint16_t kListed = 0x1fff;
constexpr int kListedRow = 64;

template <typename accumulate_t>
__device__ __forceinline__ void classify_cells(const ArgmaxArgs& args,
                                               const Tile<accumulate_t>& tile) {
  const ArgmaxTiles& tiles = args.tiles;
  const int across = tile.cell_columns(), cells = tile.cell_rows() * across;
  for (int cell = static_cast<int>(threadIdx.x); cell < cells; cell += kThreads) {
    const int row = cell / across, column = cell % across;
    accumulate_t best[4], second[4], largest = 0;
    int32_t winner = kMixed;
    bool one = true, careful = false, first = true;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int y = row + k / 2, x = column + k % 2;
      best[k] = 0;
      second[k] = -HUGE_VAL;
      if (!is_node(args.shape, tile.first_cell_y + y, tile.first_cell_x + x)) {
        continue;
      }
      int slot = y * (tiles.cell_columns + 1) + x;
      best[k] = tile.best()[slot];
      second[k] = tile.second()[slot];
      int32_t best_class = tile.best_class()[slot];
#pragma unroll 1
      for (int part = 1; part < tiles.parts; ++part) {
        slot += tiles.nodes;
        const accumulate_t other = tile.best()[slot];
        const bool better = !(other <= best[k]) && best[k] == best[k];
        second[k] = larger(larger(second[k], tile.second()[slot]), better ? best[k] : other);
        best[k] = better ? other : best[k];
        best_class = better ? tile.best_class()[slot] : best_class;
      }
      careful = careful || best[k] != best[k];
      largest = larger(largest, best[k] < 0 ? -best[k] : best[k]);
      one = one && (first || best_class == winner);
      winner = best_class;
      first = false;
    }
    const accumulate_t margin = rounding_margin(largest);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      one = one && second[k] < best[k] - margin;
    }
    const bool empty = tile.row_begin()[row] == tile.row_begin()[row + 1] ||
                       tile.column_begin()[column] == tile.column_begin()[column + 1];
    if (!one && !empty) {
      winner = kMixed;
      tile.mixed()[atomicAdd(tile.mixed_count(), 1)] =
          static_cast<uint16_t>(row * kListedRow + column + (careful ? kCareful : 0));
    }
    tile.winner()[row * tiles.cell_columns + column] = winner;
  }
}

}  // namespace argmax
}  // namespace fcn_ext
