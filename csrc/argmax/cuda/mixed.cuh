// The mixed cells of a tile: which classes may win there, and which one does at each pixel.
#pragma once

#include "argmax/cuda/cells.cuh"
#include "argmax/cuda/pixels.cuh"

namespace fcn_ext {
namespace argmax {

// Lanes that look for the survivors of one cell, each taking every kCellLanes-th class.
constexpr int kCellLanes = 4;

// Finds the classes that may win in mixed cells [first, last), among the staged ones.
template <typename accumulate_t>
__device__ __forceinline__ void find_survivors(const ArgmaxArgs& args,
                                               const Tile<accumulate_t>& tile, int first, int last,
                                               int classes) {
  const ArgmaxTiles& tiles = args.tiles;
  const int thread = opaque(static_cast<int>(threadIdx.x));
  const int lane = thread % kWarp;
  const int own = lane % kCellLanes;
  const int words = (tiles.staged + 31) / 32;
  constexpr int kCells = kWarp / kCellLanes;
  for (int base = first + thread / kWarp * kCells; base < last; base += kThreads / kCellLanes) {
    // Lanes without a cell look at the last one again and write nothing.
    const bool active = base + lane / kCellLanes < last;
    const int entry = smaller(base + lane / kCellLanes, last - 1);
    const int listed = tile.mixed()[entry] & kListed;
    const accumulate_t* above = tile.scores() + (listed / kListedRow << tiles.column_bits) +
                                listed % kListedRow + own * tiles.pitch;
    const accumulate_t* below = above + tiles.node_columns;
    const auto bound = *reinterpret_cast<const Corners<accumulate_t>*>(tile.bounds() + 4 * entry);
    bool guarded = false;
    int count = 0;
    for (int word = 0; word < words; ++word) {
      uint32_t bits = 0, bit = 1u << own;
      const int end = smaller(classes - 32 * word, 32);
#pragma unroll 2
      for (int c = own; c < end; c += kCellLanes) {
        const accumulate_t a = above[0], b = above[1], lower_a = below[0], lower_b = below[1];
        const bool survives = !(a <= bound.at[0] && b <= bound.at[1] && lower_a <= bound.at[2] &&
                                lower_b <= bound.at[3]);
        bits |= survives ? bit : 0;
        bit <<= kCellLanes;
        above += kCellLanes * tiles.pitch;
        below += kCellLanes * tiles.pitch;
        if (tiles.exact_nodes) {
          guarded = guarded ||
                    (survives && smaller(smaller(a, b), smaller(lower_a, lower_b)) == -HUGE_VAL);
        }
      }
#pragma unroll
      for (int other = 1; other < kCellLanes; other *= 2) {
        bits |= __shfl_xor_sync(kFullMask, bits, other);
      }
      count += __popc(bits);
      if (own == 0 && active) {
        tile.survivors()[entry * words + word] = bits;
      }
    }
    if (own == 0 && active) {
      const int bin = smaller(count, kSurvivorBins - 1);
      const int rank = atomicAdd(tile.survivor_bins() + bin, 1);
      tile.survivor_rank()[entry] = static_cast<uint16_t>(bin + kSurvivorBins * rank);
    }
    if (tiles.exact_nodes) {
      const unsigned guarded_lanes = __ballot_sync(kFullMask, guarded);
      __syncwarp();  // all lanes must have read the entry: a vote does not order memory
      if (own == 0 && active && (guarded_lanes >> lane & ((1u << kCellLanes) - 1)) != 0) {
        tile.mixed()[entry] |= kGuarded;
      }
    }
  }
}

// Orders mixed cells by how many classes may win there, so that the threads of a warp have equal
// work. Whole warps must call this.
template <typename accumulate_t>
__device__ __forceinline__ void order_mixed(const Tile<accumulate_t>& tile, int mixed) {
  static_assert(kSurvivorBins == kWarp);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp;
  if (thread - lane >= mixed) {
    return;
  }
  const int own = tile.survivor_bins()[lane];
  int behind = own;  // the cells in all bins up to the lane's
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) {
    const int other = __shfl_up_sync(kFullMask, behind, step);
    behind += lane >= step ? other : 0;
  }
  const int rank = thread < mixed ? tile.survivor_rank()[thread] : 0;
  const int first = __shfl_sync(kFullMask, behind - own, rank % kSurvivorBins);
  if (thread < mixed) {
    tile.mixed_order()[first + rank / kSurvivorBins] = static_cast<uint16_t>(thread);
  }
}

// Whether a later class wins: NaN is the greatest value, and the first of equal values stays.
template <typename accumulate_t>
__device__ __forceinline__ bool careful_better(accumulate_t value, accumulate_t best) {
  return value > best || (value != value && best == best);
}

// Some pixels of a mixed cell and their winners so far, in registers. Places and weights are looked
// up when needed.
template <typename accumulate_t, int band>
class PixelWinners {
  using Threads = CellThreads<band>;
  static constexpr int kRows = Threads::kRows, kColumns = Threads::kColumns;

 public:
  // The pixels of thread `part` of the cell listed at `entry`.
  __device__ __forceinline__ PixelWinners(const ArgmaxTiles& tiles, const Tile<accumulate_t>& tile,
                                          int entry, int part)
      : tiles_(tiles), tile_(tile), entry_(entry), part_(part) {
#pragma unroll
    for (int i = 0; i < kColumns; ++i) {
#pragma unroll
      for (int j = 0; j < kRows; ++j) {
        // The first survivor beats NaN; careful comparisons see every class, NaN included.
        best_[i][j] = careful() ? accumulate_t(-HUGE_VAL) : accumulate_t(NAN);
        winner_[i][j] = 0;
      }
    }
  }

  // Compares the staged classes.
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
#pragma unroll
    for (int j = 0; j < kRows; ++j) {
      if (j < place.rows) {
        uint16_t* const labels = tile_.labels() + tile_.row_start()[place.y + j] + place.x;
#pragma unroll
        for (int i = 0; i < kColumns; ++i) {
          if (i < place.columns) {
            labels[i] = static_cast<uint16_t>(winner_[i][j]);
          }
        }
      }
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

// Evaluates the pixels of mixed cells, in as many turns as the block needs.
template <typename accumulate_t, int band>
__device__ __forceinline__ void evaluate_mixed(const ArgmaxArgs& args,
                                               const Tile<accumulate_t>& tile) {
  constexpr int kOfCell = CellThreads<band>::kAll;
  const ArgmaxTiles& tiles = args.tiles;
  const auto channels = static_cast<int>(args.shape.channels);
  const int mixed = *tile.mixed_count();
  if (tiles.stages == 1) {
    // For all cells at once, before anyone reads the list, in which this marks some cells.
    find_survivors(args, tile, 0, mixed, channels);
    __syncthreads();
    order_mixed(tile, mixed);
    __syncthreads();
  }
  for (int begin = 0; begin < mixed * kOfCell; begin += kThreads) {
    const int unit = begin + static_cast<int>(threadIdx.x);
    const bool active = unit < mixed * kOfCell;
    int entry = active ? unit / kOfCell : 0;
    if (tiles.stages == 1) {
      entry = tile.mixed_order()[entry];
    }
    PixelWinners<accumulate_t, band> pixels(tiles, tile, entry, unit % kOfCell);
    for (int first_class = 0; first_class < channels; first_class += tiles.staged) {
      const int classes = smaller(tiles.staged, channels - first_class);
      if (tiles.stages > 1) {
        restage_scores(args, tile, first_class, classes);
        const int last = smaller((begin + kThreads + kOfCell - 1) / kOfCell, mixed);
        find_survivors(args, tile, begin / kOfCell, last, classes);
        __syncthreads();
      }
      if (active) {
        pixels.take(first_class, classes);
      }
    }
    if (active) {
      pixels.store();
    }
  }
}

}  // namespace argmax
}  // namespace fcn_ext
