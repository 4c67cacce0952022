// The mixed cells of a tile: which classes may win there, and which does at each pixel.
#pragma once

#include "argmax/cuda/nodes.cuh"
#include "argmax/cuda/pixels.cuh"

namespace fcn_ext {
namespace argmax {

// Lanes that look for the survivors of a cell, each a class at a time.
constexpr int kCellLanes = 8;

// Finds the classes that may win in mixed cells [first, last), out of the staged ones. Dominators
// are the classes with the largest sums over the corners: of all stages so far.
//
// A warp takes four cells; all its lanes go together.
template <typename accumulate_t>
__device__ __forceinline__ void find_survivors(const ArgmaxArgs& args,
                                               const Tile<accumulate_t>& tile, int first, int last,
                                               int first_class, int classes) {
  const ArgmaxTiles& tiles = args.tiles;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int own = lane % kCellLanes;
  const int words = (tiles.staged + 31) / 32;
  constexpr int kCells = kWarp / kCellLanes;
  for (int base = first + static_cast<int>(threadIdx.x) / kWarp * kCells; base < last;
       base += kThreads / kCellLanes) {
    // Lanes without a cell look at the last one again, and write nothing.
    const bool active = base + lane / kCellLanes < last;
    const int entry = smaller(base + lane / kCellLanes, last - 1);
    const int listed = tile.mixed()[entry] & kListed;
    const int row = listed / kListedRow, column = listed % kListedRow;
    const int across = tiles.cell_columns + 1;
    const int corner[4] = {0, 1, across, across + 1};
    const accumulate_t* scores = tile.scores() + row * across + column;

    Dominator<accumulate_t> dominator;
    dominator.sum = -HUGE_VAL;
    int best_class = -1;
#pragma unroll 2
    for (int c = own; c < classes; c += kCellLanes) {
      const accumulate_t* at = scores + c * tiles.pitch;
      const accumulate_t sum = (at[corner[0]] + at[corner[1]]) + (at[corner[2]] + at[corner[3]]);
      if (sum > dominator.sum) {
        dominator.sum = sum;
        best_class = c;
      }
    }
    const accumulate_t other_sum = __shfl_xor_sync(kFullMask, dominator.sum, kDominators);
    const int other_class = __shfl_xor_sync(kFullMask, best_class, kDominators);
    if (other_sum > dominator.sum) {
      dominator.sum = other_sum;
      best_class = other_class;
    }
    accumulate_t largest = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      // A comparison with NaN never holds: nothing is dominated.
      const bool inside =
          is_node(args.shape, tile.first_cell_y + row + k / 2, tile.first_cell_x + column + k % 2);
      const accumulate_t score =
          best_class < 0 ? accumulate_t(NAN) : scores[best_class * tiles.pitch + corner[k]];
      dominator.bound[k] = inside ? score : accumulate_t(HUGE_VAL);
      largest = inside ? larger(largest, score < 0 ? -score : score) : largest;
    }
    const accumulate_t margin = rounding_margin(largest);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const accumulate_t bound = dominator.bound[k] - margin;
      dominator.bound[k] = bound > -HUGE_VAL ? bound : accumulate_t(NAN);
    }
    if (tiles.stages > 1 && own < kDominators && active) {
      Dominator<accumulate_t>& kept = tile.dominators()[entry * kDominators + own];
      if (first_class > 0 && kept.sum >= dominator.sum) {
        dominator = kept;
      } else {
        kept = dominator;
      }
    }
    accumulate_t bounds[kDominators][4];
#pragma unroll
    for (int d = 0; d < kDominators; ++d) {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        bounds[d][k] = __shfl_sync(kFullMask, dominator.bound[k], lane - own + d);
      }
    }

    auto* bits = reinterpret_cast<uint8_t*>(tile.survivors() + entry * words);
    bool guarded = false;
#pragma unroll 1
    for (int c = own; c < words * 32; c += kCellLanes) {
      bool survives = c < classes;
      if (survives) {
        const accumulate_t* at = scores + c * tiles.pitch;
        accumulate_t score[4];
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          score[k] = at[corner[k]];
        }
#pragma unroll
        for (int d = 0; d < kDominators; ++d) {
          survives = survives && !(score[0] <= bounds[d][0] && score[1] <= bounds[d][1] &&
                                   score[2] <= bounds[d][2] && score[3] <= bounds[d][3]);
        }
        guarded = guarded || (survives && smaller(smaller(score[0], score[1]),
                                                  smaller(score[2], score[3])) == -HUGE_VAL);
      }
      const unsigned of_warp = __ballot_sync(kFullMask, survives);
      if (own == 0 && active) {
        bits[c / kCellLanes] = static_cast<uint8_t>(of_warp >> lane);
      }
    }
    const unsigned guarded_lanes = __ballot_sync(kFullMask, guarded);
    __syncwarp();  // all lanes have read the entry: a vote orders no memory
    if (tiles.exact_nodes && own == 0 && active && (guarded_lanes >> lane & 0xff) != 0) {
      tile.mixed()[entry] |= kGuarded;
    }
  }
}

// Whether a later class wins: NaN is the greatest value, the first of equal ones stays.
template <typename accumulate_t>
__device__ __forceinline__ bool careful_better(accumulate_t value, accumulate_t best) {
  return value > best || (value != value && best == best);
}

// Some pixels of a mixed cell, their winners so far in registers; where they lie and their weights
// are looked up when they are needed.
template <typename accumulate_t, int band>
class PixelWinners {
  using Threads = CellThreads<band>;
  static constexpr int kRows = Threads::kRows, kColumns = Threads::kColumns;

 public:
  // Thread `part` of the cell listed at `entry`.
  __device__ __forceinline__ PixelWinners(const ArgmaxTiles& tiles, const Tile<accumulate_t>& tile,
                                          int entry, int part)
      : tiles_(tiles), tile_(tile), entry_(entry), part_(part) {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
#pragma unroll
      for (int j = 0; j < kRows; ++j) {
        // The first survivor wins over NaN; careful comparisons have every class before them.
        best_[i][j] = careful() ? accumulate_t(-HUGE_VAL) : accumulate_t(NAN);
        winner_[i][j] = 0;
      }
    }
  }

  // Takes in the staged classes.
  __device__ __forceinline__ void take(int first_class, int classes) {
    const PixelPlace<accumulate_t, band> place = this->place();
    if (place.empty()) {
      return;
    }
    const PixelLogits<accumulate_t, band> logits(tiles_, tile_, place);
    if (careful()) {
#pragma unroll 1
      for (int c = 0; c < classes; ++c) {
        logits.template each<true>(c, [&](int i, int j, accumulate_t value) {
          take_value(careful_better(value, best_[i][j]), i, j, value, first_class + c);
        });
      }
    } else if ((tile_.mixed()[entry_] & kGuarded) != 0) {
      take_survivors<true>(logits, first_class);
    } else {
      take_survivors<false>(logits, first_class);
    }
  }

  __device__ __forceinline__ void store() const {
    const PixelPlace<accumulate_t, band> place = this->place();
    const int pitch = tiles_.cell_columns * tiles_.band;
    uint16_t* labels = tile_.labels() + place.y * pitch + place.x;
#pragma unroll
    for (int j = 0; j < kRows; ++j) {
#pragma unroll
      for (int i = 0; i < kColumns; ++i) {
        if (j < place.rows && i < place.columns) {
          labels[i] = static_cast<uint16_t>(winner_[i][j]);
        }
      }
      labels += pitch;
    }
  }

 private:
  __device__ __forceinline__ bool careful() const {
    return (tile_.mixed()[entry_] & kCareful) != 0;
  }
  __device__ __forceinline__ PixelPlace<accumulate_t, band> place() const {
    const int listed = tile_.mixed()[entry_] & kListed;
    return {tile_, listed / kListedRow, listed % kListedRow, part_};
  }
  template <bool guarded>
  __device__ __forceinline__ void take_survivors(const PixelLogits<accumulate_t, band>& logits,
                                                 int first_class) {
    const int words = (tiles_.staged + 31) / 32;
    const uint32_t* survivors = tile_.survivors() + entry_ * words;
    int word = -1;
    uint32_t bits = 0;
    while (true) {
      while (bits == 0) {
        if (++word == words) {
          return;
        }
        bits = survivors[word];
      }
      const int c = word * 32 + __ffs(static_cast<int>(bits)) - 1;
      bits &= bits - 1;
      logits.template each<guarded>(c, [&](int i, int j, accumulate_t value) {
        take_value(!(value <= best_[i][j]), i, j, value, first_class + c);
      });
    }
  }
  __device__ __forceinline__ void take_value(bool better, int i, int j, accumulate_t value,
                                             int32_t of_class) {
    best_[i][j] = better ? value : best_[i][j];
    winner_[i][j] = better ? of_class : winner_[i][j];
  }

  const ArgmaxTiles& tiles_;
  const Tile<accumulate_t>& tile_;
  int entry_, part_;
  accumulate_t best_[kColumns][kRows];
  int32_t winner_[kColumns][kRows];
};

}  // namespace argmax
}  // namespace fcn_ext
