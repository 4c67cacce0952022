// What is left when all blocks are done: the sum of their losses, and the gradient of nodes that
// lie on the rims of several tiles. Both add up in an order fixed by the shape.
#pragma once

#include "cross_entropy/cuda/tiles.cuh"

namespace fcn_ext {
namespace cross_entropy {

constexpr int kFinishThreads = 256;

// One block: the losses and weights of all blocks of the kernel before.
template <typename accumulate_t>
__global__ void __launch_bounds__(kFinishThreads)
    finish_loss_kernel(const PartialLoss* partials, int64_t count, accumulate_t* loss,
                       accumulate_t* total_weight) {
  double loss_sum = 0, weight_sum = 0;
  for (int64_t k = threadIdx.x; k < count; k += kFinishThreads) {
    loss_sum += partials[k].loss;
    weight_sum += partials[k].weight;
  }
  loss_sum = block_sum(loss_sum, shared_memory<double>());
  weight_sum = block_sum(weight_sum, shared_memory<double>());
  if (threadIdx.x == 0) {
    *loss = static_cast<accumulate_t>(loss_sum);
    *total_weight = static_cast<accumulate_t>(weight_sum);
  }
}

// A thread takes a node between tiles and a class: rows of nodes between tiles first, then columns.
template <typename Tile>
__global__ void __launch_bounds__(kFinishThreads) finish_rims_kernel(const TileArgs args) {
  const TileGrid& grid = args.grid;
  const int64_t classes = args.terms.classes;
  const int64_t in_rows = (grid.rows - 1) * grid.x.nodes;
  const int64_t in_image = in_rows + (grid.columns - 1) * grid.y.nodes;
  const int64_t elements = args.images * in_image * classes;
  const bool interleaved = args.gradient_strides.channel == 1;
  for (int64_t element = static_cast<int64_t>(blockIdx.x) * kFinishThreads + threadIdx.x;
       element < elements; element += static_cast<int64_t>(gridDim.x) * kFinishThreads) {
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
        sum += args.rims[(tile * classes + c) * Tile::kRim + slot];
      }
    }
    args.gradient[image * args.gradient_strides.batch + c * args.gradient_strides.channel +
                  i * args.gradient_strides.row + j * args.gradient_strides.column] = sum;
  }
}

}  // namespace cross_entropy
}  // namespace fcn_ext
