// What the kernels of the fused cross-entropy share: labels, class weights, fast functions, sums.
#pragma once

#include "common/cuda/device.cuh"
#include "cross_entropy/cross_entropy.h"

#if !defined(FCN_EXT_CUDA_EMULATION)
#include <cuda_pipeline_primitives.h>
#endif

namespace fcn_ext {
namespace cross_entropy {

// One instruction, to about 1 ulp; results below the normal range are zero.
__device__ __forceinline__ float reciprocal_fast(float x) {
#if defined(FCN_EXT_CUDA_EMULATION)
  return 1 / x;
#else
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#endif
}

// The logarithm of a positive normal number, to 2e-7 of itself also near 1; of NaN, NaN. x = 2^k m
// with m in [2/3, 4/3); log m by a fit of the series of log(1 + f) from its third term on.
__device__ __forceinline__ float log_of_normal(float x) {
  int32_t bits;
  __builtin_memcpy(&bits, &x, sizeof(bits));
  const int32_t exponent = (bits - 0x3f2aaaab) & static_cast<int32_t>(0xff800000);
  bits -= exponent;
  float f;
  __builtin_memcpy(&f, &bits, sizeof(f));
  f -= 1;
  float fit = 0.134337768f;
  fit = fmaf(fit, f, -0.147041544f);
  fit = fmaf(fit, f, 0.141169772f);
  fit = fmaf(fit, f, -0.165391251f);
  fit = fmaf(fit, f, 0.200038359f);
  fit = fmaf(fit, f, -0.250018090f);
  fit = fmaf(fit, f, 0.333333194f);
  fit = fmaf(f * f, fmaf(fit, f, -0.5f), f);
  constexpr float kLog2OfUnit = 8.26295832e-8f;  // log(2) / 2^23
  return fmaf(x, 0.0f, fmaf(static_cast<float>(exponent), kLog2OfUnit, fit));
}

template <typename T>
__host__ __device__ __forceinline__ constexpr T not_a_number() {
  return static_cast<T>(__builtin_nanf(""));
}

// A label is a class or one of these. An invalid one cannot be reported from a device without
// stalling it: it makes the loss NaN, and the gradient of the scores around it.
constexpr int32_t kIgnored = -1;
constexpr int32_t kInvalid = -2;

template <typename label_t>
__device__ __forceinline__ int32_t label_class(label_t label, int64_t ignore_index,
                                               int32_t classes) {
  if constexpr (sizeof(label_t) < sizeof(int64_t)) {
    const auto ignored = static_cast<int32_t>(ignore_index);
    if (label == ignored && ignored == ignore_index) {
      return kIgnored;
    }
    return static_cast<uint32_t>(label) < static_cast<uint32_t>(classes)
               ? static_cast<int32_t>(label)
               : kInvalid;
  } else {
    if (label == ignore_index) {
      return kIgnored;
    }
    return static_cast<uint64_t>(label) < static_cast<uint64_t>(classes)
               ? static_cast<int32_t>(label)
               : kInvalid;
  }
}

// Calls body(pointer to the map's first label).
template <typename Body>
__device__ __forceinline__ auto with_labels(const LabelMap& map, const Body& body) {
  switch (map.type) {
    case 0:
      return body(static_cast<const uint8_t*>(map.data));
    case 1:
      return body(static_cast<const int16_t*>(map.data));
    case 2:
      return body(static_cast<const int32_t*>(map.data));
    default:
      return body(static_cast<const int64_t*>(map.data));
  }
}

// loss of a pixel = hard * w_y * -log p_y + smooth * sum over c of w_c * -log p_c, with w_c = 1
// where there are no weights.
template <typename accumulate_t>
struct ClassTerms {
  const accumulate_t* weight;  // or null
  accumulate_t hard;           // 1 - label_smoothing
  accumulate_t smooth;         // label_smoothing / classes
  int32_t classes;

  __device__ __forceinline__ accumulate_t weight_of(int32_t c) const {
    return weight == nullptr ? accumulate_t(1) : weight[c];
  }
};

template <typename accumulate_t>
ClassTerms<accumulate_t> class_terms(const CrossEntropy& problem, const accumulate_t* weight) {
  const double classes = static_cast<double>(problem.shape.channels);
  return {weight, static_cast<accumulate_t>(1 - problem.label_smoothing),
          static_cast<accumulate_t>(problem.label_smoothing / classes),
          static_cast<int32_t>(problem.shape.channels)};
}

// The sum of a value of every thread of the block, in an order of its own, to all of them.
// `scratch` holds one value a thread; blocks are powers of two. All threads come here.
template <typename T>
__device__ __forceinline__ T block_sum(T value, T* scratch) {
  const int thread = static_cast<int>(threadIdx.x);
  __syncthreads();
  scratch[thread] = value;
  for (int half = static_cast<int>(blockDim.x) / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) {
      scratch[thread] += scratch[thread + half];
    }
  }
  __syncthreads();
  return scratch[0];
}

// smooth * sum of all class weights. All threads of the block come here.
template <typename accumulate_t>
__device__ __forceinline__ accumulate_t smooth_total(const ClassTerms<accumulate_t>& terms,
                                                     accumulate_t* scratch) {
  if (terms.weight == nullptr || terms.smooth == 0) {
    return terms.smooth * static_cast<accumulate_t>(terms.classes);
  }
  accumulate_t sum = 0;
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < terms.classes;
       c += static_cast<int32_t>(blockDim.x)) {
    sum += terms.weight[c];
  }
  return terms.smooth * block_sum(sum, scratch);
}

// Sums over the pixels of a block.
struct PartialLoss {
  double loss, weight;
};

}  // namespace cross_entropy
}  // namespace fcn_ext
