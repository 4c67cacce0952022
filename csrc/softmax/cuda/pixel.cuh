// The softmax of single pixels, for every map, type and layout.
//
// A pixel's scores are interpolated class by class, as differences from the scores of its winner:
// what all scores of a node have in common cancels before it is rounded, and exp cannot overflow.
#pragma once

#include "bilinear/cuda/taps.cuh"
#include "softmax/cuda/functions.cuh"

namespace fcn_ext {
namespace softmax {

// A block takes a piece of a row of pixels, one pixel per thread.
constexpr int kDirectThreads = 128;

__host__ __device__ __forceinline__ unsigned row_pieces(int64_t width) {
  return static_cast<unsigned>(ceil_divide(width, kDirectThreads));
}

constexpr int32_t kSummedClasses = 64;  // summed at a time, so that few roundings add up

// p_c = exp(score_c - score_winner) / (sum of that over classes). `scale` is the derivative with
// respect to the pixel's log-sum-exp, over that sum. winner < 0: the pixel is ignored.
template <typename accumulate_t>
struct PixelSum {
  accumulate_t scale;
  int32_t winner;
};

// The up to four nodes that a pixel reads; nodes of weight zero are never read.
template <typename scalar_t>
struct PixelTaps {
  using accumulate_t = accumulate_of<scalar_t>;
  const scalar_t* node[4];
  accumulate_t weight[4];

  __device__ __forceinline__ PixelTaps(const PlaneStrides& strides, const scalar_t* image,
                                       const WeightedTap<accumulate_t>& row,
                                       const WeightedTap<accumulate_t>& column) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      weight[k] = (k < 2 ? row.lower : row.upper) * (k % 2 == 0 ? column.lower : column.upper);
      node[k] = image + (row.node + k / 2) * strides.row + (column.node + k % 2) * strides.column;
    }
  }

  __device__ __forceinline__ accumulate_t score(int64_t channel_offset) const {
    accumulate_t sum = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (weight[k] != 0) {
        sum += weight[k] * static_cast<accumulate_t>(node[k][channel_offset]);
      }
    }
    return sum;
  }

  __device__ __forceinline__ void load(int64_t channel_offset, accumulate_t (&values)[4]) const {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      values[k] =
          weight[k] != 0 ? static_cast<accumulate_t>(node[k][channel_offset]) : accumulate_t(0);
    }
  }

  // A class's score minus that of the class whose scores at the nodes are `reference`.
  __device__ __forceinline__ accumulate_t difference(int64_t channel_offset,
                                                     const accumulate_t (&reference)[4]) const {
    accumulate_t sum = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (weight[k] != 0) {
        sum += weight[k] * (static_cast<accumulate_t>(node[k][channel_offset]) - reference[k]);
      }
    }
    return sum;
  }
};

// The class with the largest score, the first among equal ones; NaN counts as the largest.
template <typename scalar_t>
__device__ __forceinline__ int32_t winner_of(const PixelTaps<scalar_t>& taps, int32_t classes,
                                             int64_t channel) {
  int32_t winner = 0;
  auto best = taps.score(0);
  for (int32_t c = 1; c < classes; ++c) {
    const auto score = taps.score(c * channel);
    if (!(score <= best) && best == best) {
      best = score;
      winner = c;
    }
  }
  return winner;
}

// The sum over classes of exp(score - winner's score), where `reference` has the winner's scores at
// the nodes. Calls visit(class, difference).
template <typename scalar_t, typename Visit>
__device__ __forceinline__ accumulate_of<scalar_t> sum_exponentials(
    const PixelTaps<scalar_t>& taps, const accumulate_of<scalar_t> (&reference)[4], int32_t classes,
    int64_t channel, const Visit& visit) {
  using accumulate_t = accumulate_of<scalar_t>;
  accumulate_t sum = 0;
  for (int32_t first = 0; first < classes; first += kSummedClasses) {
    accumulate_t part = 0;
    for (int32_t c = first; c < smaller(first + kSummedClasses, classes); ++c) {
      const accumulate_t difference = taps.difference(c * channel, reference);
      part += std::exp(difference);
      visit(c, difference);
    }
    sum += part;
  }
  return sum;
}

}  // namespace softmax
}  // namespace fcn_ext
