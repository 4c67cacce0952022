// A tile of cells in shared memory: its tables and the scores of its nodes.
#pragma once

#include "argmax/cuda/tiles.cuh"
#include "cells/cuda/staging.cuh"

namespace fcn_ext {
namespace argmax {

struct ArgmaxArgs {
  BilinearShape shape;
  ArgmaxTiles tiles;
  const void* input;
  int type;  // of the scores: 0 float, 1 double, 2 half, 3 bfloat16
  PlaneStrides strides;
};

// One number per corner of a cell.
template <typename accumulate_t>
struct alignas(16) Corners {
  accumulate_t at[4];
};

// A tile in shared memory: its arrays, as in TileLayout, and its place.
template <typename accumulate_t>
class Tile {
 public:
  int image;
  int first_cell_y, first_cell_x;

  __device__ __forceinline__ explicit Tile(const ArgmaxTiles& tiles)
      : tiles_(tiles), layout_(tiles.layout) {}

  // The number of cell rows and columns that have outputs.
  __device__ int cell_rows() const {
    return smaller(tiles_.cell_rows, tiles_.first_cell_y + tiles_.cells_y - first_cell_y);
  }
  __device__ int cell_columns() const {
    return smaller(tiles_.cell_columns, tiles_.first_cell_x + tiles_.cells_x - first_cell_x);
  }

  using Weights = CellWeights<accumulate_t>;
  // Offsets are constants of the launch: an address takes one register, for a moment.
  __device__ accumulate_t* scores() const { return at<accumulate_t>(layout_.scores); }
  __device__ accumulate_t* best() const { return at<accumulate_t>(layout_.best); }
  __device__ accumulate_t* second() const { return at<accumulate_t>(layout_.second); }
  __device__ int32_t* best_class() const { return at<int32_t>(layout_.best_class); }
  __device__ accumulate_t* bounds() const { return at<accumulate_t>(layout_.bounds); }
  __device__ Weights* column_weight() const { return at<Weights>(layout_.column_weight); }
  __device__ Weights* row_weight() const { return at<Weights>(layout_.row_weight); }
  __device__ int32_t* column_begin() const { return at<int32_t>(layout_.column_begin); }
  __device__ int32_t* row_begin() const { return at<int32_t>(layout_.row_begin); }
  __device__ int32_t* row_start() const { return at<int32_t>(layout_.row_start); }
  __device__ TileMemory* memory() const { return at<TileMemory>(layout_.memory); }
  __device__ uint32_t* survivors() const { return at<uint32_t>(layout_.survivors); }
  __device__ ArgmaxChunk* chunk() const { return at<ArgmaxChunk>(layout_.chunk); }
  __device__ int32_t* mixed_count() const { return at<int32_t>(layout_.mixed_count); }
  __device__ uint16_t* mixed() const { return at<uint16_t>(layout_.mixed); }
  __device__ int32_t* survivor_bins() const { return at<int32_t>(layout_.survivor_bins); }
  __device__ uint16_t* survivor_rank() const { return at<uint16_t>(layout_.survivor_rank); }
  __device__ uint16_t* mixed_order() const { return at<uint16_t>(layout_.mixed_order); }
  __device__ uint16_t* labels() const { return at<uint16_t>(layout_.labels); }

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

// Stages the scores of `classes` classes from `first_class` on, at all nodes of the tile; zero
// outside the map. Lanes follow the nodes of a row, or the channels if those are adjacent in
// memory.
template <typename scalar_t, typename accumulate_t>
__device__ __forceinline__ void stage_scores_of(const ArgmaxArgs& args,
                                                const Tile<accumulate_t>& tile,
                                                const scalar_t* scores, int first_class,
                                                int classes) {
  const ArgmaxTiles& tiles = args.tiles;
  const int64_t channel = args.strides.channel;
  const scalar_t* image = scores + tile.image * args.strides.batch + first_class * channel;
  // Copies every `lanes`-th class of a node, from `first` on.
  const auto copy = [&](int node, int first, int lanes, int lane_bits) {
    const int y = tile.first_cell_y + (node >> tiles.column_bits);
    const int x = tile.first_cell_x + (node & (tiles.node_columns - 1));
    accumulate_t* to = tile.scores() + first * tiles.pitch + node;
    const int count = (classes - first + lanes - 1) >> lane_bits;
    if (is_node(args.shape, y, x)) {
      copy_scores(image + y * args.strides.row + x * args.strides.column + first * channel,
                  lanes * channel, to, lanes * tiles.pitch, count);
    } else {
      for (int i = 0; i < count; ++i) {
        to[i * lanes * tiles.pitch] = 0;
      }
    }
  };
  constexpr int kWarpBits = 5;
  static_assert(1 << kWarpBits == kWarp);
  const int thread = static_cast<int>(threadIdx.x);
  if (tiles.interleaved) {
    for (int node = thread / kWarp; node < tiles.nodes; node += kThreads / kWarp) {
      copy(node, thread % kWarp, kWarp, kWarpBits);
    }
  } else {
    copy(thread & (tiles.nodes - 1), thread >> tiles.node_bits, tiles.parts, tiles.part_bits);
  }
  wait_for_copies();
}

template <typename accumulate_t>
__device__ __forceinline__ void stage_scores(const ArgmaxArgs& args, const Tile<accumulate_t>& tile,
                                             int first_class, int classes) {
  if constexpr (std::is_same_v<accumulate_t, double>) {
    stage_scores_of(args, tile, static_cast<const double*>(args.input), first_class, classes);
  } else {
    with_scores(args.input, args.type, [&](const auto* scores) {
      stage_scores_of(args, tile, scores, first_class, classes);
    });
  }
}

// stage_scores() in place of classes that threads may still read; all threads of the block can read
// the new ones at once.
template <typename accumulate_t>
__device__ __forceinline__ void restage_scores(const ArgmaxArgs& args,
                                               const Tile<accumulate_t>& tile, int first_class,
                                               int classes) {
  __syncthreads();
  stage_scores(args, tile, first_class, classes);
  __syncthreads();
}

// The score of a class at an existing node, from global memory.
template <typename accumulate_t>
__device__ __forceinline__ accumulate_t score_at(const ArgmaxArgs& args,
                                                 const Tile<accumulate_t>& tile, int64_t of_class,
                                                 int y, int x) {
  const PlaneStrides& strides = args.strides;
  const int64_t offset = tile.image * strides.batch + of_class * strides.channel + y * strides.row +
                         x * strides.column;
  if constexpr (std::is_same_v<accumulate_t, double>) {
    return static_cast<const double*>(args.input)[offset];
  } else {
    float score = 0;
    with_scores(args.input, args.type,
                [&](const auto* scores) { score = static_cast<float>(scores[offset]); });
    return score;
  }
}

// Runs body(tile) for the tiles of this block, one after another, while the tile's tables are being
// written: begins are complete, the rest is after the next barrier. All threads must call this.
template <typename accumulate_t, int band, typename Body>
__device__ __forceinline__ void each_tile(const ArgmaxArgs& args, const Body& body) {
  const ArgmaxTiles& tiles = args.tiles;
  Tile<accumulate_t> tile(tiles);
  // `item` would take a register throughout the body.
#pragma unroll 1
  for (int item = static_cast<int>(blockIdx.x); item < tiles.items;
       item = tile.chunk()->item + static_cast<int>(gridDim.x)) {
    __syncthreads();  // the previous chunk is done
    if (threadIdx.x == 0) {
      // item = (image, chunk, tile column). One thread divides for all.
      const int chunk_rows = tiles.chunk_tiles * tiles.cell_rows;
      const int above = item / tiles.tiles_x % tiles.chunks * chunk_rows;
      *tile.chunk() = {item, item / tiles.tiles_x / tiles.chunks, tiles.first_cell_y + above,
                       tiles.first_cell_y + smaller(above + chunk_rows, tiles.cells_y),
                       tiles.first_cell_x + item % tiles.tiles_x * tiles.cell_columns};
    }
    __syncthreads();
    tile.image = tile.chunk()->image;
    tile.first_cell_y = tile.chunk()->first_cell_y;
    tile.first_cell_x = tile.chunk()->first_cell_x;
    fill_begins<kThreads>(args.shape.x, tile.first_cell_x, tile.cell_columns(),
                          tile.column_begin());
    bool first = true;
    do {
      __syncthreads();  // the previous tile is done
      fill_begins<kThreads>(args.shape.y, tile.first_cell_y, tile.cell_rows(), tile.row_begin());
      if (first) {
        fill_weights<kThreads, band>(args.shape.x, tile.first_cell_x, tile.cell_columns(),
                                     tile.column_begin(), tile.column_weight());
        first = false;
      }
      __syncthreads();
      fill_weights<kThreads, band>(args.shape.y, tile.first_cell_y, tile.cell_rows(),
                                   tile.row_begin(), tile.row_weight());
      body(tile);
      tile.first_cell_y += tiles.cell_rows;
    } while (tile.first_cell_y < tile.chunk()->end_cell_y);
  }
}

}  // namespace argmax
}  // namespace fcn_ext
