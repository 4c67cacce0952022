// Scalar functions that the softmax kernels share, and the sum over a block.
#pragma once

#include "common/cuda/device.cuh"

namespace fcn_ext {
namespace softmax {

// 1 / x in one instruction, to about 1 ulp; results below the normal range are zero.
__device__ __forceinline__ float reciprocal_fast(float x) {
#if defined(FCN_EXT_CUDA_EMULATION)
  return cuda_emulation::rcp_approx_ftz(x);
#else
  float result;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#endif
}

// The natural log of a positive normal number, within 2e-7 of its value even near 1; NaN for NaN. x
// = 2^k m with m in [2/3, 4/3); log m is the series of log(1 + f), fitted from its third term on.
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

// Sums a value over all threads of the block, in a fixed order, and returns the sum to all of them.
// `scratch` holds one value per warp; blocks are whole warps. All threads must call this.
template <typename T>
__device__ __forceinline__ T block_sum(T value, T* scratch) {
  const int thread = static_cast<int>(threadIdx.x), warps = static_cast<int>(blockDim.x) / kWarp;
#pragma unroll
  for (int other = kWarp / 2; other > 0; other /= 2) {
    value += __shfl_xor_sync(kFullMask, value, other);
  }
  __syncthreads();
  if (thread % kWarp == 0) {
    scratch[thread / kWarp] = value;
  }
  __syncthreads();
  value = scratch[0];
  for (int warp = 1; warp < warps; ++warp) {
    value += scratch[warp];
  }
  return value;
}

// The logarithm of a pixel's sum, to be multiplied by its factor. Where the sum is below one, the
// product is negative, and what the nodes add to the loss makes up for it. With an infinite factor
// both would be infinite, and their sum NaN where the loss is infinite.
template <typename T>
__device__ __forceinline__ T log_for(T factor, T logarithm) {
  return factor == static_cast<T>(INFINITY) ? std::abs(logarithm) : logarithm;
}

}  // namespace softmax
}  // namespace fcn_ext
