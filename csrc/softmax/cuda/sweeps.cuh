// The two sweeps over the classes of a block's pixels: sums of powers for each pixel, then, from a
// weight for each pixel, the corner sums of each cell. Classes come to shared memory in stages.
#pragma once

#include "softmax/cuda/node_gradients.cuh"

namespace fcn_ext {
namespace softmax {

// Calls body(first class, number of classes, their staged scores) for all classes in turn, while
// the next ones are being copied. Every thread is past a barrier before each call and after the
// last.
template <typename Block, typename Body>
__device__ __forceinline__ void sweep(const Block& block, const Body& body) {
  const int32_t classes = block.tiles.classes;
  constexpr int kStage = kTileClasses * Block::kNodes;
  int at = 0;  // of the staged classes: kStage of the first ones, then zero and kStage in turn
#pragma unroll 1
  for (int32_t first = -kTileClasses; first < classes; first += kTileClasses) {
    const int32_t next = first + kTileClasses;
    __pipeline_wait_prior(0);
    __syncthreads();
    if (next < classes) {
      block.stage(next, smaller(kTileClasses, classes - next), block.staged + (kStage - at));
    }
    if (first >= 0) {
      body(first, smaller(kTileClasses, classes - first), block.staged + at);
    }
    at = kStage - at;
  }
  __syncthreads();
}

// The same from the last classes to the first, after sweep() and a barrier: what that staged last
// is still there, two times in a row.
template <typename Block, typename Body>
__device__ __forceinline__ void sweep_back(const Block& block, const Body& body) {
  const int32_t classes = block.tiles.classes;
  constexpr int kStage = kTileClasses * Block::kNodes;
  const int32_t last = (classes - 1) / kTileClasses * kTileClasses;
  int at = last / kTileClasses % 2 == 0 ? kStage : 0;
#pragma unroll 1
  for (int32_t first = last; first >= 0; first -= kTileClasses) {
    __pipeline_wait_prior(0);
    __syncthreads();
    if (first > 0 && first < last) {
      block.stage(first - kTileClasses, kTileClasses, block.staged + (kStage - at));
    }
    body(first, smaller(kTileClasses, classes - first), block.staged + at);
    at = kStage - at;
  }
  __syncthreads();
}

// The maxima of the nodes around a cell: in registers where there are some left, else loaded for
// every class again.
template <typename Tile, bool held = Tile::kSide <= 4>
struct CellMaxima {
  const float* maxima;

  __device__ __forceinline__ explicit CellMaxima(const float* top_left) : maxima(top_left) {}
  __device__ __forceinline__ float operator[](int node) const { return maxima[node]; }
};
template <typename Tile>
struct CellMaxima<Tile, true> {
  float top_left, top_right, bottom_left, bottom_right;

  __device__ __forceinline__ explicit CellMaxima(const float* maxima)
      : top_left(maxima[0]),
        top_right(maxima[1]),
        bottom_left(maxima[Tile::kNodeColumns]),
        bottom_right(maxima[Tile::kNodeColumns + 1]) {}
  __device__ __forceinline__ float operator[](int node) const {
    return node == 0                    ? top_left
           : node == 1                  ? top_right
           : node == Tile::kNodeColumns ? bottom_left
                                        : bottom_right;
  }
};

// A class's scores at the corners of the thread's cell, less the maxima of the nodes.
template <typename Tile>
__device__ __forceinline__ Corners corners_of(const float* scores, const CellMaxima<Tile>& maxima) {
  return {scores[0] - maxima[0], scores[1] - maxima[1],
          scores[Tile::kNodeColumns] - maxima[Tile::kNodeColumns],
          scores[Tile::kNodeColumns + 1] - maxima[Tile::kNodeColumns + 1]};
}

// sum[pixel] += 2^(score less its bound, in bits) of `count` staged classes, for the thread's
// pixels.
template <typename Tile, bool with_gradient>
__device__ __forceinline__ void add_powers_of_stage(const TileNodes<Tile, with_gradient>& block,
                                                    const float* staged, int count,
                                                    float (&sum)[Tile::kPixels]) {
  const int top_left = top_left_of<Tile>(block.cell());
  const Part part = block.part();
  const PixelSteps& steps = block.tiles.grid.steps;
  const float* scores = staged + top_left;
  const CellMaxima<Tile> maxima(block.maxima + top_left);
  const float* const end = scores + count * Tile::kNodes;
  if (block.flags[0] != 0) {
#pragma unroll 1
    for (; scores < end; scores += Tile::kNodes) {
      add_powers_of_any_range<Tile>(corners_of<Tile>(scores, maxima), part, steps, sum);
    }
  } else {
#pragma unroll 1
    for (; scores < end; scores += Tile::kNodes) {
      add_powers<Tile>(exponents(corners_of<Tile>(scores, maxima), part, steps), sum);
    }
  }
}

// Of two sums, the second with a factor of each class: factor_of(k) of the k-th staged one.
template <typename Tile, bool with_gradient, typename FactorOf>
__device__ __forceinline__ void add_weighted_powers_of_stage(
    const TileNodes<Tile, with_gradient>& block, const float* staged, int count,
    const FactorOf& factor_of, float (&sum)[Tile::kPixels], float (&weighted)[Tile::kPixels]) {
  const int top_left = top_left_of<Tile>(block.cell());
  const Part part = block.part();
  const PixelSteps& steps = block.tiles.grid.steps;
  const CellMaxima<Tile> maxima(block.maxima + top_left);
#pragma unroll 1
  for (int k = 0; k < count; ++k) {
    const Corners corners = corners_of<Tile>(staged + top_left + k * Tile::kNodes, maxima);
    if (block.flags[0] != 0) {
      add_powers_of_any_range<Tile>(corners, part, steps, factor_of(k), sum, weighted);
    } else {
      add_powers<Tile>(exponents(corners, part, steps), factor_of(k), sum, weighted);
    }
  }
}

// The sums over the thread's pixels of factors[pixel] 2^(score less its bound) of a staged class,
// by corner.
template <typename Tile, bool with_gradient, typename Factors>
__device__ __forceinline__ void corner_sums_of_class(const TileNodes<Tile, with_gradient>& block,
                                                     const float* scores, const Factors& factors,
                                                     float (&corner)[4]) {
  const int top_left = top_left_of<Tile>(block.cell());
  const Corners corners =
      corners_of<Tile>(scores + top_left, CellMaxima<Tile>(block.maxima + top_left));
  const Part part = block.part();
  const PixelSteps& steps = block.tiles.grid.steps;
  if (block.flags[0] != 0) {
    corner_sums_of_any_range<Tile>(corners, part, steps, factors, corner);
  } else {
    corner_sums<Tile>(exponents(corners, part, steps), part, factors, corner);
  }
}

// Leaves the sums over the pixels of each cell of u 2^(the same), by corner, in block.corners, from
// where sum_around() takes them after a barrier.
template <typename Tile>
__device__ __forceinline__ void sum_corners_of_stage(const TileGradients<Tile, true>& block,
                                                     const float* staged, int count,
                                                     const float (&u)[Tile::kPixels]) {
  const int top_left = top_left_of<Tile>(block.cell());
  const Part part = block.part();
  const PixelSteps& steps = block.tiles.grid.steps;
  const float* scores = staged + top_left;
  const CellMaxima<Tile> maxima(block.maxima + top_left);
  const auto each_class = [&](const auto& sums_of) {
    const float* const end = scores + count * Tile::kNodes;
    float* to = block.own_corner();
#pragma unroll 1
    for (; scores < end; scores += Tile::kNodes) {
      float corner[4];
      sums_of(corners_of<Tile>(scores, maxima), corner);
      block.keep(corner, to);
      to += Tile::kCornerPitch;
    }
  };
  if (block.flags[0] != 0) {
    each_class([&](const Corners& corners, float (&corner)[4]) {
      corner_sums_of_any_range<Tile>(corners, part, steps, u, corner);
    });
  } else {
    each_class([&](const Corners& corners, float (&corner)[4]) {
      corner_sums<Tile>(exponents(corners, part, steps), part, u, corner);
    });
  }
}

}  // namespace softmax
}  // namespace fcn_ext
