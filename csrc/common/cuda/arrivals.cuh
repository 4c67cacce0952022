// Blocks that leave parts of a result in global memory, of which the last one makes the whole: a
// counter says which one that is, so that nobody waits, and no other kernel has to follow.
#pragma once

#include "common/cuda/launch.cuh"

namespace fcn_ext {

constexpr int kClearThreads = 256;

// A thread clears a counter.
template <typename counter_t>
__global__ void __launch_bounds__(kClearThreads)
    clear_arrivals_kernel(counter_t* counters, int64_t count) {
  const int64_t k = static_cast<int64_t>(blockIdx.x) * kClearThreads + threadIdx.x;
  if (k < count) {
    counters[k] = 0;
  }
}

// To come before the kernel whose blocks arrive, or count.
template <typename counter_t>
void launch_clear_arrivals(counter_t* counters, int64_t count, cudaStream_t stream) {
  launch(clear_arrivals_kernel<counter_t>, dim3(blocks_along_x(ceil_divide(count, kClearThreads))),
         dim3(kClearThreads), 0, stream, counters, count);
}

// Counts the block among the `expected` ones; whether it is the last. By one thread, after a
// barrier behind all that the block leaves to others. Where it is the last, what the others left is
// there for all threads behind the next barrier.
__device__ __forceinline__ bool arrives_last(unsigned* counter, unsigned expected) {
  __threadfence();
  const bool last = atomicInc(counter, expected - 1) == expected - 1;
  __threadfence();
  return last;
}

}  // namespace fcn_ext
