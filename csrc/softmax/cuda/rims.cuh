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
// Images that a thread takes, where there are blocks enough for every multiprocessor.
constexpr int kRimImages = 4;
constexpr int64_t kManyRimBlocks = 4096;

// The nodes between tiles of an image: rows of them first, then what columns have besides; and how
// many of them a block takes.
struct BetweenTiles {
  int in_rows, in_columns, in_block;
};
inline BetweenTiles between_tiles(const SoftmaxTiles& tiles) {
  const TileGrid& grid = tiles.grid;
  return {static_cast<int>((grid.rows - 1) * grid.x.input_size),
          static_cast<int>((grid.columns - 1) * grid.y.input_size),
          tiles.interleaved() ? larger(1, kRimThreads / tiles.classes) : kRimThreads};
}

// A thread takes a node between tiles and, where classes lie far apart, kRimClasses of them in
// turn, so that neighboring threads write neighboring nodes; else a class of a node, and every
// kRimThreads-th behind it. One block more does what else is left: also(scratch), with kRimScratch
// bytes of shared memory. Memory touched: two or four parts of the workspace for an element of the
// gradient.
template <typename Tile, typename Also>
__global__ void __launch_bounds__(kRimThreads, 4)
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
  int at = block * nodes.in_block + thread;
  int first = static_cast<int>(blockIdx.y) * kRimClasses, step = 1;
  int last = smaller(first + kRimClasses, tiles.classes);
  if (tiles.interleaved()) {
    last = tiles.classes;
    step = smaller(kRimThreads, last);
    const auto own = static_cast<int>(threadIdx.x / static_cast<unsigned>(step));
    if (own >= nodes.in_block) {
      return;
    }
    at = block * nodes.in_block + own;
    first = thread - own * step;
  }
  // The node; its tile is the one before it, the `next`-th behind that has it, too, and at what
  // place their parts have it. A node between four tiles has two more.
  constexpr int kSides = 2 * Tile::kNodeColumns - 1;  // before a part's second row of nodes
  int i, j, next, before, behind;
  bool between_four = false;
  if (at < nodes.in_rows) {
    const int between = at / width;
    i = (between + 1) * Tile::kRows - 1;
    j = at - between * width;
    next = grid.columns;
    behind = j % Tile::kColumns + 1;
    before = Tile::kNodeColumns + behind;
    between_four = behind == Tile::kColumns;
  } else {
    const int rest = at - nodes.in_rows, between = rest / height;
    i = rest - between * height;
    j = (between + 1) * Tile::kColumns - 1;
    const int place = i % Tile::kRows + 1;
    if (rest >= nodes.in_columns || place == Tile::kRows) {
      return;
    }
    next = 1;
    behind = kSides + place;
    before = behind + Tile::kRows - 1;
  }
  const int32_t node_step = tiles.rim_step(), class_step = tiles.rim_class_step<Tile>();
  const int32_t part_floats = tiles.classes * Tile::kRim;
#pragma unroll 1
  for (int image = static_cast<int>(blockIdx.z); image < static_cast<int>(tiles.images);
       image += static_cast<int>(gridDim.z)) {
    const int tile = (image * grid.rows + i / Tile::kRows) * grid.columns + j / Tile::kColumns;
    const float* const part = tiles.rims + int64_t{part_floats} * tile;
    const float* const next_part = part + int64_t{part_floats} * next;
    float* const to = tiles.gradient + image * strides.batch + i * strides.row + j * strides.column;
    const auto finish = [&](int c) {
      const int32_t offset = c * class_step;
      float sum = part[offset + before * node_step];
      if (between_four) {
        sum += part[offset + part_floats + Tile::kNodeColumns * node_step];
      }
      sum += next_part[offset + behind * node_step];
      if (between_four) {
        sum += next_part[offset + part_floats];
      }
      to[c * strides.channel] = sum;
    };
    if (tiles.interleaved()) {
#pragma unroll 1
      for (int c = first; c < last; c += step) {
        finish(c);
      }
    } else {
#pragma unroll 4
      for (int c = first; c < last; ++c) {
        finish(c);
      }
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
  const BetweenTiles nodes = between_tiles(tiles);
  const int64_t blocks = ceil_divide(int64_t{nodes.in_rows} + nodes.in_columns, nodes.in_block);
  const int64_t chunks = tiles.interleaved() ? 1 : ceil_divide(tiles.classes, kRimClasses);
  const bool many = blocks * chunks * tiles.images >= kManyRimBlocks;
  const int64_t in_turn = many ? ceil_divide(tiles.images, kRimImages) : tiles.images;
  launch(finish_rims_kernel<Tile, Also>,
         dim3(static_cast<unsigned>(blocks + 1), static_cast<unsigned>(chunks),
              static_cast<unsigned>(smaller(in_turn, kMostBlocksYZ))),
         dim3(kRimThreads), kRimScratch, stream, tiles, nodes, also);
}

}  // namespace softmax
}  // namespace fcn_ext
