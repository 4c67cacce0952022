// The two sweeps over the classes of a block's pixels: one adds up powers for each pixel, the other
// turns a weight for each pixel into the corner sums of each cell. Classes are staged in shared
// memory, some at a time.
#pragma once

#include "softmax/cuda/node_gradients.cuh"

namespace fcn_ext {
namespace softmax {

// Calls body(first class, number of classes, their staged scores) for all classes in turn, while
// the next ones are being copied. There is a barrier before each call and after the last.
template <typename Block, typename Body>
__device__ __forceinline__ void sweep(const Block& block, const Body& body) {
  const int32_t classes = block.tiles.classes;
  const float* const vector = block.own_vector();
  constexpr int kClasses = Block::kClasses, kStage = Block::kStage;
  int at = 0;  // offset of the current stage: kStage for the first, then zero and kStage in turn
#pragma unroll 1
  for (int32_t first = -kClasses; first < classes; first += kClasses) {
    const int32_t next = first + kClasses;
    __pipeline_wait_prior(0);
    __syncthreads();
    if (next < classes) {
      block.stage(next, smaller(kClasses, classes - next), block.staged + (kStage - at), vector);
    }
    if (first >= 0) {
      body(first, smaller(kClasses, classes - first), block.staged + at);
    }
    at = kStage - at;
  }
  __syncthreads();
}

// Like sweep(), but from the last classes to the first. Call it after sweep() and a barrier: the
// last two stages are still in shared memory.
template <typename Block, typename Body>
__device__ __forceinline__ void sweep_back(const Block& block, const Body& body) {
  const int32_t classes = block.tiles.classes;
  const float* const vector = block.own_vector();
  constexpr int kClasses = Block::kClasses, kStage = Block::kStage;
  const int32_t last = (classes - 1) / kClasses * kClasses;
  int at = last / kClasses % 2 == 0 ? kStage : 0;
#pragma unroll 1
  for (int32_t first = last; first >= 0; first -= kClasses) {
    __pipeline_wait_prior(0);
    __syncthreads();
    if (first > 0 && first < last) {
      block.stage(first - kClasses, kClasses, block.staged + (kStage - at), vector);
    }
    body(first, smaller(kClasses, classes - first), block.staged + at);
    at = kStage - at;
  }
  __syncthreads();
}

// The maxima of the nodes around the thread's stack: held in registers if there are enough, else
// loaded again for every class.
template <typename Tile, bool held = Tile::kSide <= 4>
struct StackMaxima {
  const float* top_left;

  __device__ __forceinline__ explicit StackMaxima(const float* maxima) : top_left(maxima) {}
  __device__ __forceinline__ float operator[](int k) const { return top_left[Tile::to_slot(k)]; }
};
template <typename Tile>
struct StackMaxima<Tile, true> {
  float at[Tile::kCorners];

  __device__ __forceinline__ explicit StackMaxima(const float* maxima) {
#pragma unroll
    for (int k = 0; k < Tile::kCorners; ++k) {
      at[k] = maxima[Tile::to_slot(k)];
    }
  }
  __device__ __forceinline__ float operator[](int k) const { return at[k]; }
};

// A class's scores at the corners of a cell of the thread's stack, minus the maxima of the nodes.
// The compiler loads scores that two cells share only once.
template <typename Tile>
__device__ __forceinline__ Corners corners_of(const float* scores, const StackMaxima<Tile>& maxima,
                                              int which = 0) {
  const auto at = [&](int k) { return scores[Tile::to_slot(k)] - maxima[k]; };
  return {at(2 * which), at(2 * which + 1), at(2 * which + 2), at(2 * which + 3)};
}

// The thread's parts of the cells of its stack.
template <typename Tile>
struct Parts {
  Part at[Tile::kStack];

  template <bool with_gradient>
  __device__ __forceinline__ Parts(const TileNodes<Tile, with_gradient>& block, unsigned stack) {
    if constexpr (Tile::kStack == 1) {
      at[0] = block.part();
    } else {
      static_assert(Tile::kStack == 2 && NodeShared<Tile, with_gradient>::kPartY % 16 == 0);
      const float2 x = block.part_x[stack % Tile::kColumns];
      const float4 y = reinterpret_cast<const float4*>(block.part_y)[stack / Tile::kColumns];
      at[0] = {x.x, y.x, x.y, y.y};
      at[1] = {x.x, y.z, x.y, y.w};
    }
  }
  __device__ __forceinline__ const Part& operator[](int which) const { return at[which]; }
};

// Among a thread's values, those of its part of one cell.
template <typename Tile>
__device__ __forceinline__ auto& of_part(float (&values)[Tile::kOwnPixels], int which) {
  return reinterpret_cast<float (&)[Tile::kPixels]>(values[which * Tile::kPixels]);
}

// Calls body(scores of a class, k) for `count` staged classes. If those are all the stage holds,
// unrolls `together` of them.
template <typename Tile, int together, typename Body>
__device__ __forceinline__ void each_staged(const float* scores, int count, const Body& body) {
  static_assert(Tile::kClasses % together == 0);
  if (together > 1 && count == Tile::kClasses) {
#pragma unroll 1
    for (int first = 0; first < Tile::kClasses; first += together) {
#pragma unroll
      for (int k = 0; k < together; ++k) {
        body(scores + (first + k) * Tile::kSlots, first + k);
      }
    }
    return;
  }
  const float* const end = scores + count * Tile::kSlots;
#pragma unroll 1
  for (int k = 0; scores < end; ++k, scores += Tile::kSlots) {
    body(scores, k);
  }
}
// How many classes to unroll together: several if there are enough registers.
template <typename Tile>
constexpr int kTogether = Tile::kSide > 4           ? 1
                          : Tile::kClasses % 3 == 0 ? 3
                                                    : Tile::kClasses;

// Adds 2^(score - bound, in bits) of `count` staged classes to sum[pixel], for the thread's pixels.
template <typename Tile, bool with_gradient>
__device__ __forceinline__ void add_powers_of_stage(const TileNodes<Tile, with_gradient>& block,
                                                    const float* staged, int count,
                                                    float (&sum)[Tile::kOwnPixels]) {
  const unsigned stack = block.stack();
  const int top_left = Tile::top_left_slot(stack);
  const Parts<Tile> parts(block, stack);
  const PixelSteps& steps = block.tiles.grid.steps;
  const float* scores = staged + top_left;
  const StackMaxima<Tile> maxima(block.maxima + top_left);
  const auto add_class = [&](const float* of_class, const auto& add) {
#pragma unroll
    for (int which = 0; which < Tile::kStack; ++which) {
      add(corners_of<Tile>(of_class, maxima, which), parts[which], of_part<Tile>(sum, which));
    }
  };
  if (block.flags[0] != 0) {
    each_staged<Tile, 1>(scores, count, [&](const float* of_class, int) {
      add_class(of_class, [&](const Corners& corners, const Part& part, auto& own) {
        add_powers_of_any_range<Tile>(corners, part, steps, own);
      });
    });
  } else {
    each_staged<Tile, kTogether<Tile>>(scores, count, [&](const float* of_class, int) {
      add_class(of_class, [&](const Corners& corners, const Part& part, auto& own) {
        add_powers<Tile>(exponents(corners, part, steps), own);
      });
    });
  }
}

// Adds to two sums, the second with a factor per class: factor_of(k) of the k-th staged class.
template <typename Tile, bool with_gradient, typename FactorOf>
__device__ __forceinline__ void add_weighted_powers_of_stage(
    const TileNodes<Tile, with_gradient>& block, const float* staged, int count,
    const FactorOf& factor_of, float (&sum)[Tile::kPixels], float (&weighted)[Tile::kPixels]) {
  const int top_left = Tile::top_left_slot(block.stack());
  const Part part = block.part();
  const PixelSteps& steps = block.tiles.grid.steps;
  const StackMaxima<Tile> maxima(block.maxima + top_left);
#pragma unroll 1
  for (int k = 0; k < count; ++k) {
    const Corners corners = corners_of<Tile>(staged + top_left + k * Tile::kSlots, maxima);
    if (block.flags[0] != 0) {
      add_powers_of_any_range<Tile>(corners, part, steps, factor_of(k), sum, weighted);
    } else {
      add_powers<Tile>(exponents(corners, part, steps), factor_of(k), sum, weighted);
    }
  }
}

// The sums over the thread's pixels of factors[pixel] 2^(score - bound) of a staged class, one for
// each corner.
template <typename Tile, bool with_gradient, typename Factors>
__device__ __forceinline__ void corner_sums_of_class(const TileNodes<Tile, with_gradient>& block,
                                                     const float* scores, const Factors& factors,
                                                     float (&corner)[4]) {
  const int top_left = Tile::top_left_slot(block.stack());
  const Corners corners =
      corners_of<Tile>(scores + top_left, StackMaxima<Tile>(block.maxima + top_left));
  const Part part = block.part();
  const PixelSteps& steps = block.tiles.grid.steps;
  if (block.flags[0] != 0) {
    corner_sums_of_any_range<Tile>(corners, part, steps, factors, corner);
  } else {
    corner_sums<Tile>(exponents(corners, part, steps), part, factors, corner);
  }
}

// Leaves the sums over the pixels of each stack of u 2^(score - bound), by corner, in
// block.corners. sum_around() can read them there after a barrier.
template <typename Tile>
__device__ __forceinline__ void sum_corners_of_stage(const TileGradients<Tile, true>& block,
                                                     const float* staged, int count,
                                                     const float (&u)[Tile::kOwnPixels]) {
  const unsigned stack = block.stack();
  const int top_left = Tile::top_left_slot(stack);
  const Parts<Tile> parts(block, stack);
  const PixelSteps& steps = block.tiles.grid.steps;
  const float* scores = staged + top_left;
  const StackMaxima<Tile> maxima(block.maxima + top_left);
  float* const to = block.own_corner();
  const auto sum_class = [&](const float* of_class, int k, const auto& sums_of) {
    float corner[Tile::kCorners];
#pragma unroll
    for (int which = 0; which < Tile::kStack; ++which) {
      float own[4];
      sums_of(corners_of<Tile>(of_class, maxima, which), parts[which], u + which * Tile::kPixels,
              own);
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        float& sum = corner[2 * which + c];
        sum = which > 0 && c < 2 ? sum + own[c] : own[c];
      }
    }
    block.keep(corner, to + k * Tile::kCornerPitch);
  };
  if (block.flags[0] != 0) {
    each_staged<Tile, 1>(scores, count, [&](const float* of_class, int k) {
      sum_class(of_class, k,
                [&](const Corners& corners, const Part& part, const float* own_u, auto& own) {
                  corner_sums_of_any_range<Tile>(corners, part, steps, own_u, own);
                });
    });
  } else {
    each_staged<Tile, kTogether<Tile>>(scores, count, [&](const float* of_class, int k) {
      sum_class(of_class, k,
                [&](const Corners& corners, const Part& part, const float* own_u, auto& own) {
                  corner_sums<Tile>(exponents(corners, part, steps), part, own_u, own);
                });
    });
  }
}

}  // namespace softmax
}  // namespace fcn_ext
