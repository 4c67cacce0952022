// What every kernel file includes: the CUDA runtime, or the emulation that runs the same sources on
// the host (tests/cuda_emulation), and a few helpers that kernels share.
//
// Rules: get shared memory from shared_memory<T>() only (all of it is dynamic and uninitialized;
// launch() takes its size); access vectors through load_vector / store_vector; the mask of a
// shuffle or vote names the lanes that take part, and all of them must reach it; every thread of a
// block must reach every __syncthreads(). Kernels that are not templates are `static`.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#if defined(FCN_EXT_CUDA_EMULATION)
#include "cuda_emulation.h"
#else
#include <cuda_runtime.h>
#endif

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "common/accumulate.h"

namespace fcn_ext {

constexpr int kWarp = 32;
constexpr unsigned kFullMask = 0xffffffffu;

// The block's shared memory, aligned to 16 bytes.
template <typename T>
__device__ __forceinline__ T* shared_memory() {
#if defined(FCN_EXT_CUDA_EMULATION)
  return reinterpret_cast<T*>(cuda_emulation::block.shared);
#else
  extern __shared__ __align__(16) unsigned char fcn_ext_shared_memory[];
  return reinterpret_cast<T*>(fcn_ext_shared_memory);
#endif
}

// `count` elements that one instruction moves: 1, 2, 4, 8 or 16 bytes.
template <typename scalar_t, int count>
struct alignas(sizeof(scalar_t) * count) Vector {
  scalar_t values[count];
};

template <int bytes>
struct VectorBits;
template <>
struct VectorBits<1> {
  using type = unsigned char;
};
template <>
struct VectorBits<2> {
  using type = unsigned short;
};
template <>
struct VectorBits<4> {
  using type = unsigned;
};
template <>
struct VectorBits<8> {
  using type = uint2;
};
template <>
struct VectorBits<16> {
  using type = uint4;
};
template <typename scalar_t, int count>
using vector_bits = typename VectorBits<sizeof(scalar_t) * count>::type;

// Loads and stores of vectors, aligned to their own size. `streamed` data is touched once and
// should not evict anything else from the caches.
template <int count, typename scalar_t>
__device__ __forceinline__ Vector<scalar_t, count> load_vector(const scalar_t* address) {
  const auto bits = __ldg(reinterpret_cast<const vector_bits<scalar_t, count>*>(address));
  Vector<scalar_t, count> vector;
  __builtin_memcpy(&vector, &bits, sizeof(vector));
  return vector;
}

template <int count, typename scalar_t>
__device__ __forceinline__ Vector<scalar_t, count> load_vector_streamed(const scalar_t* address) {
  const auto bits = __ldcs(reinterpret_cast<const vector_bits<scalar_t, count>*>(address));
  Vector<scalar_t, count> vector;
  __builtin_memcpy(&vector, &bits, sizeof(vector));
  return vector;
}

template <int count, typename scalar_t>
__device__ __forceinline__ void store_vector_streamed(scalar_t* address,
                                                      const Vector<scalar_t, count>& vector) {
  vector_bits<scalar_t, count> bits;
  __builtin_memcpy(&bits, &vector, sizeof(vector));
  __stcs(reinterpret_cast<vector_bits<scalar_t, count>*>(address), bits);
}

// Loads raw bits, so that several loads can be in flight before the first vector is unpacked.
template <int count, typename scalar_t>
__device__ __forceinline__ vector_bits<scalar_t, count> load_bits_streamed(
    const scalar_t* address) {
  return __ldcs(reinterpret_cast<const vector_bits<scalar_t, count>*>(address));
}

// Element `index` of a vector's bits, in the accumulation type. A bfloat16 is a float's upper half.
template <typename scalar_t, typename bits_t>
__device__ __forceinline__ accumulate_of<scalar_t> widened(const bits_t& vector, int index) {
  if constexpr (std::is_same_v<scalar_t, c10::BFloat16>) {
    uint32_t pairs[(sizeof(bits_t) + 3) / 4] = {};
    __builtin_memcpy(pairs, &vector, sizeof(bits_t));
    const uint32_t pair = pairs[index / 2];
    const uint32_t bits = index % 2 == 0 ? pair << 16 : pair & 0xffff0000u;
    float value;
    __builtin_memcpy(&value, &bits, sizeof(value));
    return value;
  } else {
    scalar_t values[sizeof(bits_t) / sizeof(scalar_t)];
    __builtin_memcpy(values, &vector, sizeof(bits_t));
    return static_cast<accumulate_of<scalar_t>>(values[index]);
  }
}

template <typename T>
__host__ __device__ __forceinline__ T smaller(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
__host__ __device__ __forceinline__ T larger(T a, T b) {
  return a < b ? b : a;
}

// Tells the compiler that an address is one of global memory, which it cannot know of pointers that
// were in shared memory or come from asm. Its loads and stores would be generic ones.
template <typename T>
__device__ __forceinline__ T* in_global_memory(T* address) {
#if !defined(FCN_EXT_CUDA_EMULATION)
  __builtin_assume(__isGlobal(address));
#endif
  return address;
}

// base + k * step, in global memory. The compiler would add step to base + (k - 1) * step, and wait
// for that.
template <typename T>
__device__ __forceinline__ T* stepped(T* base, uint32_t step, uint32_t k) {
#if defined(FCN_EXT_CUDA_EMULATION)
  return base + uint64_t{step} * k;
#else
  T* result;
  asm("mad.wide.u32 %0, %1, %2, %3;"
      : "=l"(result)
      : "r"(step), "r"(k * static_cast<uint32_t>(sizeof(T))), "l"(base));
  return in_global_memory(result);
#endif
}

// Keeps the compiler from hoisting what is computed from `value` out of a loop, which would take
// more registers than there are.
__device__ __forceinline__ int opaque(int value) {
#if !defined(FCN_EXT_CUDA_EMULATION)
  asm volatile("" : "+r"(value));
#endif
  return value;
}
__device__ __forceinline__ float opaque(float value) {
#if !defined(FCN_EXT_CUDA_EMULATION)
  asm volatile("" : "+f"(value));
#endif
  return value;
}

// The larger of two numbers; NaN if either is NaN.
__device__ __forceinline__ float larger_or_nan(float a, float b) {
#if defined(FCN_EXT_CUDA_EMULATION) || __CUDA_ARCH__ < 800
  return a != a || b < a ? a : b;
#else
  float result;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
#endif
}
__device__ __forceinline__ double larger_or_nan(double a, double b) {
  return a != a || b < a ? a : b;
}

// 2^x in one instruction, to about 2 ulp; results below the normal range are zero.
__device__ __forceinline__ float exp2_fast(float x) {
#if defined(FCN_EXT_CUDA_EMULATION)
  return cuda_emulation::ex2_approx_ftz(x);
#else
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#endif
}

}  // namespace fcn_ext
