// Blocks that leave parts of a result in global memory, which the last block to finish combines. A
// counter tells each block whether it is the last, so no block waits and no second kernel is
// needed.
#pragma once

#include "common/cuda/launch.cuh"

namespace fcn_ext {

constexpr int kClearThreads = 256;

// Each thread clears one counter.
template <typename counter_t>
__global__ void __launch_bounds__(kClearThreads)
    clear_arrivals_kernel(counter_t* counters, int64_t count) {
  const int64_t k = static_cast<int64_t>(blockIdx.x) * kClearThreads + threadIdx.x;
  if (k < count) {
    counters[k] = 0;
  }
}

// Call before the kernel whose blocks arrive at the counters or count in them.
template <typename counter_t>
void launch_clear_arrivals(counter_t* counters, int64_t count, cudaStream_t stream) {
  launch(clear_arrivals_kernel<counter_t>, dim3(blocks_along_x(ceil_divide(count, kClearThreads))),
         dim3(kClearThreads), 0, stream, counters, count);
}

// Counts this block among the `expected` ones and returns whether it is the last. For one thread,
// after a barrier that follows all that the block writes for others. In the last block, all threads
// see what the others wrote after the next barrier.
__device__ __forceinline__ bool arrives_last(unsigned* counter, unsigned expected) {
  __threadfence();
  const bool last = atomicInc(counter, expected - 1) == expected - 1;
  __threadfence();
  return last;
}

}  // namespace fcn_ext
