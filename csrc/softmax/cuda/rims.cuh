// The gradient of nodes that lie on the rims of several tiles: the sum of what their blocks found,
// in an order fixed by the shape.
#pragma once

#include "common/cuda/launch.cuh"
#include "softmax/cuda/tiles.cuh"

namespace fcn_ext {
namespace softmax {

constexpr int kRimThreads = 256;
constexpr size_t kRimScratch = kRimThreads / kWarp * sizeof(double);
constexpr int kRimClasses = 8;  // that a thread takes where classes lie far apart

// The nodes between tiles of an image: rows of them first, then what columns have besides.
struct BetweenTiles {
  int in_rows, in_columns;
};
inline BetweenTiles between_tiles(const TileGrid& grid) {
  return {static_cast<int>((grid.rows - 1) * grid.x.input_size),
          static_cast<int>((grid.columns - 1) * grid.y.input_size)};
}

// A thread takes a node between tiles and, where classes lie far apart, kRimClasses of them in
// turn, so that neighboring threads write neighboring nodes; else a warp takes a node, and its
// lanes the classes. One block more does what else is left: also(scratch), with kRimScratch bytes
// of shared memory. Memory touched: two or four parts of the workspace for an element of the
// gradient.
template <typename Tile, typename Also>
__global__ void __launch_bounds__(kRimThreads)
    finish_rims_kernel(const SoftmaxTiles tiles, const BetweenTiles nodes, const Also also) {
  if (blockIdx.x == gridDim.x - 1) {
    if (blockIdx.y == 0 && blockIdx.z == 0) {
      also(shared_memory<double>());
    }
    return;
  }
  const TileGrid& grid = tiles.grid;
  const PlaneStrides& strides = tiles.gradient_strides;
  const int width = static_cast<int>(grid.x.input_size);
  const int height = static_cast<int>(grid.y.input_size);
  const int thread = static_cast<int>(threadIdx.x), block = static_cast<int>(blockIdx.x);
  const bool interleaved = strides.channel == 1;
  const int first = interleaved ? thread % kWarp : static_cast<int>(blockIdx.y) * kRimClasses;
  const int last = interleaved ? tiles.classes : smaller(first + kRimClasses, tiles.classes);
  const int step = interleaved ? kWarp : 1;
  const int at =
      interleaved ? block * (kRimThreads / kWarp) + thread / kWarp : block * kRimThreads + thread;
  int i, j;
  if (at < nodes.in_rows) {
    const int between = at / width;
    i = (between + 1) * Tile::kRows - 1;
    j = at - between * width;
  } else {
    const int rest = at - nodes.in_rows, between = rest / height;
    i = rest - between * height;
    j = (between + 1) * Tile::kColumns - 1;
    if (rest >= nodes.in_columns || (i + 1) % Tile::kRows == 0) {
      return;
    }
  }
  // The tiles of the cells before the node, and of those behind it.
  const int row = i / Tile::kRows, column = j / Tile::kColumns;
  const int rows = (i + 1) / Tile::kRows - row + 1, columns = (j + 1) / Tile::kColumns - column + 1;
  const int64_t tile_floats = int64_t{tiles.classes} * Tile::kRim;
#pragma unroll 1
  for (int64_t image = blockIdx.z; image < tiles.images; image += gridDim.z) {
    const float* from[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      const int r = k / 2, c = k % 2;
      const int slot =
          rim_slot<Tile>(i + 1 - (row + r) * Tile::kRows, j + 1 - (column + c) * Tile::kColumns);
      from[k] = r < rows && c < columns
                    ? tiles.rims + slot +
                          ((image * grid.rows + row + r) * grid.columns + column + c) * tile_floats
                    : nullptr;
    }
    float* const to = tiles.gradient + image * strides.batch + i * strides.row + j * strides.column;
#pragma unroll 4
    for (int c = first; c < last; c += step) {
      const int offset = c * Tile::kRim;
      float sum = 0;
#pragma unroll
      for (const float* part : from) {
        sum += part == nullptr ? 0.0f : part[offset];
      }
      to[c * strides.channel] = sum;
    }
  }
}

// Of the workspace that tiles.rims needs.
inline int64_t rim_floats(const TileGrid& grid, int64_t classes) {
  return grid.count * classes * grid.rim;
}

// What is not left.
struct NothingElse {
  __device__ __forceinline__ void operator()(double*) const {}
};

template <typename Tile, typename Also = NothingElse>
void launch_finish_rims(const SoftmaxTiles& tiles, cudaStream_t stream, const Also& also = {}) {
  const BetweenTiles nodes = between_tiles(tiles.grid);
  const bool interleaved = tiles.gradient_strides.channel == 1;
  const int in_block = interleaved ? kRimThreads / kWarp : kRimThreads;
  const int64_t blocks = ceil_divide(int64_t{nodes.in_rows} + nodes.in_columns, in_block);
  const int64_t chunks = interleaved ? 1 : ceil_divide(tiles.classes, kRimClasses);
  launch(finish_rims_kernel<Tile, Also>,
         dim3(static_cast<unsigned>(blocks + 1), static_cast<unsigned>(chunks),
              static_cast<unsigned>(smaller(tiles.images, kMostBlocksYZ))),
         dim3(kRimThreads), kRimScratch, stream, tiles, nodes, also);
}

}  // namespace softmax
}  // namespace fcn_ext
