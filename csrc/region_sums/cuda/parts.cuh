// The parts of region sums that blocks leave for the last kernel to add up; single pixels.
#pragma once

#include "common/cuda/launch.cuh"
#include "region_sums/region_sums.h"
#include "softmax/cuda/pixel.cuh"
#include "target/cuda/label_class.cuh"

namespace fcn_ext {
namespace region_sums {

using namespace softmax;

constexpr int kRows = 4;  // rows of sums, by RegionSum

struct BlockLoss {
  double loss, weight;
};

__host__ __device__ __forceinline__ int64_t pieces_of(const BilinearShape& shape) {
  return shape.y.output_size * row_pieces(shape.x.output_size);
}

// A pixel of an image.
struct Place {
  int64_t y, x;
};
// The pixel of a thread in piece `piece`; it may lie beyond the end of its row.
__device__ __forceinline__ Place place_of(const BilinearShape& shape, int64_t piece) {
  const int64_t pieces = row_pieces(shape.x.output_size);
  return {piece / pieces, piece % pieces * kDirectThreads + threadIdx.x};
}

// A pixel's softmax: its taps, its winner, and the winner's scores, which others are relative to.
template <typename scalar_t>
struct PixelSoftmax {
  using accumulate_t = accumulate_of<scalar_t>;
  PixelTaps<scalar_t> taps;
  int64_t channel;
  int32_t winner;
  accumulate_t reference[4];

  __device__ __forceinline__ PixelSoftmax(const RegionSums& problem, const scalar_t* image,
                                          const Place& place, int32_t classes)
      : taps(problem.input_strides, image, weighted_tap<accumulate_t>(problem.shape.y, place.y),
             weighted_tap<accumulate_t>(problem.shape.x, place.x)),
        channel(problem.input_strides.channel),
        winner(winner_of(taps, classes, channel)) {
    taps.load(winner * channel, reference);
  }

  __device__ __forceinline__ accumulate_t difference(int32_t c) const {
    return taps.difference(c * channel, reference);
  }
  __device__ __forceinline__ accumulate_t power(int32_t c) const { return std::exp(difference(c)); }
};

template <typename accumulate_t>
__device__ __forceinline__ accumulate_t sum_over_warp(accumulate_t value) {
#pragma unroll
  for (int other = kWarp / 2; other > 0; other /= 2) {
    value += __shfl_xor_sync(kFullMask, value, other);
  }
  return value;
}

}  // namespace region_sums
}  // namespace fcn_ext
