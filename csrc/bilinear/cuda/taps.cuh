// What the forward and backward kernels of the resampling engine share: taps with their weights,
// and the places of planes and rows in a map.
#pragma once

#include "bilinear/bilinear.h"
#include "common/cuda/device.cuh"

namespace fcn_ext {

// The two weights of one output along an axis. Zero means that the node must not be read, because
// it lies beyond the border or adds nothing: an infinity there must not become NaN.
template <typename accumulate_t>
struct alignas(16) WeightedTap {
  int32_t node;
  accumulate_t lower, upper;
};

template <typename accumulate_t>
__device__ __forceinline__ WeightedTap<accumulate_t> weighted_tap(const BilinearAxis& axis,
                                                                  int64_t output) {
  const BilinearTap tap = bilinear_tap(axis, output);
  return {
      static_cast<int32_t>(tap.node),
      tap.node < 0 ? accumulate_t(0) : lower_weight<accumulate_t>(axis, tap),
      tap.node + 1 >= axis.input_size ? accumulate_t(0) : upper_weight<accumulate_t>(axis, tap)};
}

// The offset of a plane: a channel of an image, or a whole image if channels are adjacent in a row
// (`inner` of them; else inner == 1).
__host__ __device__ __forceinline__ int64_t plane_offset(int64_t plane, int64_t channels, int inner,
                                                         const PlaneStrides& strides) {
  return inner == 1 ? plane / channels * strides.batch + plane % channels * strides.channel
                    : plane * strides.batch;
}

// Whether rows are contiguous, in the order of a dense map.
inline bool has_dense_rows(const PlaneStrides& strides, int64_t inner) {
  return strides.column == inner && (inner == 1 || strides.channel == 1);
}

// How many elements an address lies past a multiple of 16 bytes.
template <typename scalar_t>
__host__ __device__ __forceinline__ int elements_past_alignment(const scalar_t* address) {
  return static_cast<int>(reinterpret_cast<uintptr_t>(address) % 16 / sizeof(scalar_t));
}

}  // namespace fcn_ext
