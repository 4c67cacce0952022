// A tile of cells in shared memory: its tables, its nodes' scores, and the cells that have one
// winner.
#pragma once

#include <cfloat>
#include <cmath>

#include "argmax/argmax_tiles.cuh"

#if !defined(FCN_EXT_CUDA_EMULATION)
#include <cuda_pipeline_primitives.h>
#endif

namespace fcn_ext {
namespace argmax {

constexpr int kMixed = -1;

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

struct ArgmaxArgs {
  BilinearShape shape;
  ArgmaxTiles tiles;
  const void* input;
  int type;  // of its elements: 0 float, 1 double, 2 half, 3 bfloat16
  PlaneStrides strides;
};

// What a class must not be below, at each corner of a cell, to be able to win there.
template <typename accumulate_t>
struct Dominator {
  accumulate_t sum;  // of the dominating class's scores
  accumulate_t bound[4];
};

// A tile in shared memory: its arrays, as TileLayout describes them, and where it lies.
template <typename accumulate_t>
class Tile {
 public:
  int image;
  int first_cell_y, first_cell_x;

  __device__ __forceinline__ explicit Tile(const ArgmaxTiles& tiles)
      : tiles_(tiles), layout_(tiles.layout) {}

  // Those that have outputs.
  __device__ int cell_rows() const {
    return smaller(tiles_.cell_rows, tiles_.first_cell_y + tiles_.cells_y - first_cell_y);
  }
  __device__ int cell_columns() const {
    return smaller(tiles_.cell_columns, tiles_.first_cell_x + tiles_.cells_x - first_cell_x);
  }

  using Weights = CellWeights<accumulate_t>;
  // Offsets are constants of the launch: an address costs one register for one moment.
  __device__ accumulate_t* scores() const { return at<accumulate_t>(layout_.scores); }
  __device__ accumulate_t* best() const { return at<accumulate_t>(layout_.best); }
  __device__ accumulate_t* second() const { return at<accumulate_t>(layout_.second); }
  __device__ int32_t* best_class() const { return at<int32_t>(layout_.best_class); }
  __device__ Dominator<accumulate_t>* dominators() const {
    return at<Dominator<accumulate_t>>(layout_.dominators);
  }
  __device__ Weights* column_weight() const { return at<Weights>(layout_.column_weight); }
  __device__ Weights* row_weight() const { return at<Weights>(layout_.row_weight); }
  __device__ int32_t* column_begin() const { return at<int32_t>(layout_.column_begin); }
  __device__ int32_t* row_begin() const { return at<int32_t>(layout_.row_begin); }
  __device__ int32_t* winner() const { return at<int32_t>(layout_.winner); }
  __device__ uint32_t* survivors() const { return at<uint32_t>(layout_.survivors); }
  __device__ int32_t* mixed_count() const { return at<int32_t>(layout_.mixed_count); }
  __device__ uint16_t* mixed() const { return at<uint16_t>(layout_.mixed); }
  __device__ uint16_t* labels() const { return at<uint16_t>(layout_.labels); }
  __device__ uint8_t* column_cell() const { return at<uint8_t>(layout_.column_cell); }
  __device__ uint8_t* row_cell() const { return at<uint8_t>(layout_.row_cell); }

  __device__ int rows() const { return row_begin()[cell_rows()] - row_begin()[0]; }
  __device__ int columns() const { return column_begin()[cell_columns()] - column_begin()[0]; }

 private:
  template <typename T>
  __device__ __forceinline__ T* at(int offset) const {
    return reinterpret_cast<T*>(shared_memory<unsigned char>() + offset);
  }
  const ArgmaxTiles& tiles_;
  const TileLayout& layout_;
};

// Tables of an axis of a tile: where its cells begin, and every output's cell and weights.
template <typename accumulate_t>
__device__ __forceinline__ void fill_tables(const BilinearAxis& axis, int first_cell, int cells,
                                            int32_t* begins, CellWeights<accumulate_t>* weights,
                                            uint8_t* cell_of) {
  const BilinearAxis cell = cell_axis(axis);
  const auto begin = static_cast<int32_t>(first_output(cell, first_cell));
  const auto end = static_cast<int32_t>(first_output(cell, first_cell + cells));
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll 1
  for (int i = thread; i <= cells; i += kThreads) {
    begins[i] = static_cast<int32_t>(first_output(cell, first_cell + i));
  }
#pragma unroll 1
  for (int i = thread; i < end - begin; i += kThreads) {
    int64_t of = 0;
    weights[i] = cell_weights<accumulate_t>(axis, begin + i, of);
    cell_of[i] = static_cast<uint8_t>(of - first_cell);
  }
}

__device__ __forceinline__ bool is_node(const BilinearShape& shape, int y, int x) {
  return y >= 0 && y < shape.y.input_size && x >= 0 && x < shape.x.input_size;
}

// Copies `count` scores to shared memory, many on their way at a time; copies of equal types are
// there after wait_for_copies().
template <typename scalar_t, typename accumulate_t>
__device__ __forceinline__ void copy_scores(const scalar_t* from, int64_t from_step,
                                            accumulate_t* to, int to_step, int count) {
  if constexpr (std::is_same_v<scalar_t, accumulate_t>) {
#pragma unroll 4
    for (int i = 0; i < count; ++i) {
      __pipeline_memcpy_async(to, from, sizeof(scalar_t));
      from += from_step;
      to += to_step;
    }
  } else {
    constexpr int kAhead = 8;
#pragma unroll 1
    for (int i = 0; i < count; i += kAhead) {
      Vector<scalar_t, 1> ahead[kAhead];
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        // Behind the last one comes the last one again.
        ahead[a] = load_vector<1>(from);
        from += i + a + 1 < count ? from_step : 0;
      }
#pragma unroll
      for (int a = 0; a < kAhead; ++a) {
        if (i + a < count) {
          *to = static_cast<accumulate_t>(ahead[a].values[0]);
          to += to_step;
        }
      }
    }
  }
}

__device__ __forceinline__ void wait_for_copies() {
  __pipeline_commit();
  __pipeline_wait_prior(0);
}

// Scores of `classes` classes from `first_class` on, of all nodes of the tile; zero outside.
// Lanes follow the nodes of a row, or the channels where those lie side by side.
template <typename scalar_t, typename accumulate_t>
__device__ __forceinline__ void stage_scores_of(const ArgmaxArgs& args,
                                                const Tile<accumulate_t>& tile, int first_class,
                                                int classes) {
  const ArgmaxTiles& tiles = args.tiles;
  const int64_t channel = args.strides.channel;
  const scalar_t* image = static_cast<const scalar_t*>(args.input) +
                          tile.image * args.strides.batch + first_class * channel;
  const int across = tiles.cell_columns + 1;
  const int lanes = tiles.interleaved ? kWarp : tiles.parts;  // that share a node
  for (int slot = static_cast<int>(threadIdx.x); slot < tiles.nodes * lanes; slot += kThreads) {
    const int node = tiles.interleaved ? slot / kWarp : slot % tiles.nodes;
    const int first = tiles.interleaved ? slot % kWarp : slot / tiles.nodes;
    const int y = tile.first_cell_y + node / across, x = tile.first_cell_x + node % across;
    accumulate_t* to = tile.scores() + first * tiles.pitch + node;
    const int count = (classes - first + lanes - 1) / lanes;
    if (is_node(args.shape, y, x)) {
      copy_scores(image + y * args.strides.row + x * args.strides.column + first * channel,
                  lanes * channel, to, lanes * tiles.pitch, count);
    } else {
      for (int i = 0; i < count; ++i) {
        to[i * lanes * tiles.pitch] = 0;
      }
    }
  }
  wait_for_copies();
}

template <typename accumulate_t>
__device__ __forceinline__ void stage_scores(const ArgmaxArgs& args, const Tile<accumulate_t>& tile,
                                             int first_class, int classes) {
  if constexpr (std::is_same_v<accumulate_t, double>) {
    stage_scores_of<double>(args, tile, first_class, classes);
  } else if (args.type == 0) {
    stage_scores_of<float>(args, tile, first_class, classes);
  } else if (args.type == 2) {
    stage_scores_of<c10::Half>(args, tile, first_class, classes);
  } else {
    stage_scores_of<c10::BFloat16>(args, tile, first_class, classes);
  }
}

// Takes the staged classes into the two largest scores of every node. `best` becomes NaN, and
// stays it, at a node whose values need care: NaN, huge, or -inf where it may have no weight.
template <typename accumulate_t>
__device__ __forceinline__ void update_nodes(const ArgmaxTiles& tiles,
                                             const Tile<accumulate_t>& tile, int first_class,
                                             int classes) {
  constexpr accumulate_t kLargest = kLargestScore<accumulate_t>;
  const accumulate_t least = tiles.exact_nodes ? -kLargest : accumulate_t(-HUGE_VAL);
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
    bool plain = true;
#pragma unroll 4
    for (int c = part; c < classes; c += tiles.parts) {
      const accumulate_t value = tile.scores()[c * tiles.pitch + node];
      plain = plain && value < kLargest && value >= least;
      const bool better = value > best;
      second = larger(second, better ? best : value);
      best = better ? value : best;
      best_class = better ? first_class + c : best_class;
    }
    tile.best()[slot] = plain ? best : accumulate_t(NAN);
    tile.second()[slot] = second;
    tile.best_class()[slot] = best_class;
  }
}

// Writes the winner of every cell that has one, and lists the others: first, in its low 13 bits,
// column + 64 * row; kCareful is set where a node needs care.
constexpr uint16_t kCareful = 0x8000;
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
