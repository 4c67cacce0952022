// The gradient of nodes that lie on the rims of several tiles: the sum of what their blocks found,
// in an order fixed by the shape.
#pragma once

#include "common/cuda/launch.cuh"
#include "softmax/cuda/tiles.cuh"

namespace fcn_ext {
namespace softmax {

constexpr int kRimThreads = 256;

// A thread takes a node between tiles and a class: rows of nodes between tiles first, then columns.
template <typename Tile>
__global__ void __launch_bounds__(kRimThreads) finish_rims_kernel(const SoftmaxTiles tiles) {
  const TileGrid& grid = tiles.grid;
  const int64_t classes = tiles.classes;
  const int64_t in_rows = (grid.rows - 1) * grid.x.nodes;
  const int64_t in_image = in_rows + (grid.columns - 1) * grid.y.nodes;
  const int64_t elements = tiles.images * in_image * classes;
  const bool interleaved = tiles.gradient_strides.channel == 1;
  for (int64_t element = static_cast<int64_t>(blockIdx.x) * kRimThreads + threadIdx.x;
       element < elements; element += static_cast<int64_t>(gridDim.x) * kRimThreads) {
    const int64_t c = interleaved ? element % classes : element / in_image % classes;
    const int64_t at = interleaved ? element / classes % in_image : element % in_image;
    const int64_t image = element / classes / in_image;
    int64_t i, j;
    if (at < in_rows) {
      i = (at / grid.x.nodes + 1) * Tile::kRows - 1;
      j = at % grid.x.nodes;
    } else {
      i = (at - in_rows) % grid.y.nodes;
      j = ((at - in_rows) / grid.y.nodes + 1) * Tile::kColumns - 1;
      if ((i + 1) % Tile::kRows == 0) {
        continue;
      }
    }
    // The tiles of the cells before the node, and of those behind it.
    const int64_t tile_row = i / Tile::kRows, tile_column = j / Tile::kColumns;
    float sum = 0;
    for (int64_t row = tile_row; row <= (i + 1) / Tile::kRows; ++row) {
      for (int64_t column = tile_column; column <= (j + 1) / Tile::kColumns; ++column) {
        const int64_t tile = (image * grid.rows + row) * grid.columns + column;
        const int slot = rim_slot<Tile>(static_cast<int>(i + 1 - row * Tile::kRows),
                                        static_cast<int>(j + 1 - column * Tile::kColumns));
        sum += tiles.rims[(tile * classes + c) * Tile::kRim + slot];
      }
    }
    tiles.gradient[image * tiles.gradient_strides.batch + c * tiles.gradient_strides.channel +
                   i * tiles.gradient_strides.row + j * tiles.gradient_strides.column] = sum;
  }
}

// Of the workspace that tiles.rims needs.
inline int64_t rim_floats(const TileGrid& grid, int64_t classes) {
  return grid.count * classes * grid.rim;
}

template <typename Tile>
void launch_finish_rims(const SoftmaxTiles& tiles, cudaStream_t stream) {
  const TileGrid& grid = tiles.grid;
  const int64_t elements = tiles.images * tiles.classes *
                           ((grid.rows - 1) * grid.x.nodes + (grid.columns - 1) * grid.y.nodes);
  launch(finish_rims_kernel<Tile>,
         dim3(static_cast<unsigned>(smaller(ceil_divide(elements, kRimThreads), kMostBlocks))),
         dim3(kRimThreads), 0, stream, tiles);
}

}  // namespace softmax
}  // namespace fcn_ext
