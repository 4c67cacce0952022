// Copies coarse scores to shared memory.
#pragma once

#include "bilinear/bilinear.h"
#include "common/cuda/device.cuh"

#if !defined(FCN_EXT_CUDA_EMULATION)
#include <cuda_pipeline_primitives.h>
#endif

namespace fcn_ext {

// The type of scores as a number (element_index in common/types.h).
template <typename scalar_t>
constexpr int kElementType = std::is_same_v<scalar_t, float>       ? 0
                             : std::is_same_v<scalar_t, double>    ? 1
                             : std::is_same_v<scalar_t, c10::Half> ? 2
                                                                   : 3;

// Calls body(pointer to the first score). Not for double, which has kernels of its own.
template <typename Body>
__device__ __forceinline__ void with_scores(const void* scores, int type, const Body& body) {
  switch (type) {
    case 0:
      return body(static_cast<const float*>(scores));
    case 2:
      return body(static_cast<const c10::Half*>(scores));
    default:
      return body(static_cast<const c10::BFloat16*>(scores));
  }
}

__device__ __forceinline__ bool is_node(const BilinearShape& shape, int y, int x) {
  return y >= 0 && y < shape.y.input_size && x >= 0 && x < shape.x.input_size;
}

// Copies a score to shared memory: asynchronously if the types are equal, so that the thread must
// wait for the copy before it reads the score.
template <typename scalar_t, typename accumulate_t>
__device__ __forceinline__ void copy_score(const scalar_t* from, accumulate_t* to) {
  if constexpr (std::is_same_v<scalar_t, accumulate_t>) {
    __pipeline_memcpy_async(to, from, sizeof(scalar_t));
  } else {
    *to = static_cast<accumulate_t>(*from);
  }
}

// Copies four scores, aligned to their total size.
__device__ __forceinline__ void copy_four(const float* from, float* to) {
  __pipeline_memcpy_async(to, from, 4 * sizeof(float));
}

// Copies `count` scores to shared memory with many loads in flight. If the types are equal, the
// copies are complete only after wait_for_copies().
template <typename scalar_t, typename accumulate_t>
__device__ __forceinline__ void copy_scores(const scalar_t* from, int64_t from_step,
                                            accumulate_t* to, int to_step, int count) {
  if constexpr (std::is_same_v<scalar_t, accumulate_t>) {
#pragma unroll 4
    for (int i = 0; i < count; ++i) {
      copy_score(from, to);
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
        // Past the end, load the last score again.
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

}  // namespace fcn_ext
