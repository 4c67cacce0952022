// A tile of cells in shared memory: its tables and the scores of its nodes.
#pragma once

#include "argmax/cuda/tiles.cuh"

#if !defined(FCN_EXT_CUDA_EMULATION)
#include <cuda_pipeline_primitives.h>
#endif

namespace fcn_ext {
namespace argmax {

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
  __device__ int32_t* strip() const { return at<int32_t>(layout_.strip); }
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
  const BilinearAxis cell = unclamped(axis);
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

// Runs body(tile) for the tiles of this block, one after another, with their tables being written:
// they are there after the next barrier. All threads go together.
template <typename accumulate_t, typename Body>
__device__ __forceinline__ void each_tile(const ArgmaxArgs& args, const Body& body) {
  const ArgmaxTiles& tiles = args.tiles;
  Tile<accumulate_t> tile(tiles);
  // Where the strip ends, and its item, would be registers for the whole of the body.
  int32_t* strip = tile.strip();
  for (int item = static_cast<int>(blockIdx.x); item < tiles.items;
       item = strip[0] + static_cast<int>(gridDim.x)) {
    // item = (image, strip, tile column)
    const int strip_rows = tiles.strip_tiles * tiles.cell_rows;
    const int above = item / tiles.tiles_x % tiles.strips * strip_rows;
    tile.image = item / tiles.tiles_x / tiles.strips;
    tile.first_cell_x = tiles.first_cell_x + item % tiles.tiles_x * tiles.cell_columns;
    tile.first_cell_y = tiles.first_cell_y + above;
    __syncthreads();  // the strip before is done
    if (threadIdx.x == 0) {
      strip[0] = item;
      strip[1] = tiles.first_cell_y + smaller(above + strip_rows, tiles.cells_y);
    }
    fill_tables(args.shape.x, tile.first_cell_x, tile.cell_columns(), tile.column_begin(),
                tile.column_weight(), tile.column_cell());
    do {
      __syncthreads();  // the tile before is done
      fill_tables(args.shape.y, tile.first_cell_y, tile.cell_rows(), tile.row_begin(),
                  tile.row_weight(), tile.row_cell());
      body(tile);
      tile.first_cell_y += tiles.cell_rows;
    } while (tile.first_cell_y < strip[1]);
  }
}

}  // namespace argmax
}  // namespace fcn_ext
