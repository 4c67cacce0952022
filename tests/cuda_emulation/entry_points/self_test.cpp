// Kernels with deliberate mistakes next to correct ones, which the emulation must tell apart.
#include <string>

#include "common/cuda/launch.cuh"

namespace {

using fcn_ext::launch;
using fcn_ext::shared_memory;

// out[i] = in[n - 1 - i], block by block, through shared memory.
template <bool with_barrier>
__global__ void reverse_kernel(const int* in, int* out) {
  int* staged = shared_memory<int>();
  const unsigned base = blockIdx.x * blockDim.x;
  staged[threadIdx.x] = in[base + threadIdx.x];
  if (with_barrier) {
    __syncthreads();
  }
  out[base + threadIdx.x] = staged[blockDim.x - 1 - threadIdx.x];
}

__global__ void divergent_barrier_kernel() {
  if (threadIdx.x % 2 == 0) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void early_return_kernel() {
  if (threadIdx.x == 7) {
    return;
  }
  __syncthreads();
}

__global__ void exited_lane_kernel(int* out) {
  if (threadIdx.x == 3) {
    return;
  }
  out[threadIdx.x] = __shfl_down_sync(fcn_ext::kFullMask, static_cast<int>(threadIdx.x), 1);
}

__global__ void unnamed_lane_kernel(int* out) {
  out[threadIdx.x] = __shfl_sync(0x0000ffffu, static_cast<int>(threadIdx.x), 20);
}

__global__ void stray_lane_kernel() { __syncwarp(0x0000ffffu); }

__global__ void misaligned_kernel(float* data) {
  fcn_ext::store_vector_streamed(data + 1, fcn_ext::load_vector<4>(data));
}

__global__ void shared_overrun_kernel() { shared_memory<int>()[blockDim.x + threadIdx.x] = 1; }

__global__ void uninitialized_kernel(float* out) {
  out[threadIdx.x] = shared_memory<float>()[threadIdx.x];
}

// Five warp functions of every lane's value: 5 x 32 results.
__global__ void warp_kernel(const int* in, int* out) {
  const int value = in[threadIdx.x];
  out[threadIdx.x] = __shfl_up_sync(fcn_ext::kFullMask, value, 1, 8);
  out[32 + threadIdx.x] = __shfl_xor_sync(fcn_ext::kFullMask, value, 5);
  out[64 + threadIdx.x] = static_cast<int>(__ballot_sync(fcn_ext::kFullMask, value % 2 == 0));
  out[96 + threadIdx.x] = static_cast<int>(__match_any_sync(fcn_ext::kFullMask, value % 3));
  out[128 + threadIdx.x] =
      __any_sync(fcn_ext::kFullMask, value == 9) * 2 + __all_sync(fcn_ext::kFullMask, value >= 0);
}

// Adds one to the counter of each thread's bin, and once more through compare-and-swap.
__global__ void histogram_kernel(const int* bins, unsigned long long* counts) {
  const int bin = bins[blockIdx.x * blockDim.x + threadIdx.x];
  atomicAdd(&counts[bin], 1ULL);
  unsigned long long seen = counts[bin], assumed;
  do {
    assumed = seen;
    seen = atomicCAS(&counts[bin], assumed, assumed + 1);
  } while (seen != assumed);
}

// A histogram as if by one thread: what a plain read-modify-write loses makes counts smaller.
__global__ void racing_kernel(const int* bins, unsigned long long* counts) {
  const int bin = bins[blockIdx.x * blockDim.x + threadIdx.x];
  const unsigned long long seen = counts[bin];
  __syncwarp();
  counts[bin] = seen + 1;
}

__global__ void empty_kernel() {}

// out[i] = in[i] through shared memory. Each thread's copy arrives there at some time before the
// thread has waited for it.
template <bool with_wait>
__global__ void copy_kernel(const int* in, int* out) {
  int* staged = shared_memory<int>();
  const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
  __pipeline_memcpy_async(staged + threadIdx.x, in + thread, sizeof(int));
  __pipeline_commit();
  __pipeline_wait_prior(with_wait ? 0 : 1);
  out[thread] = staged[threadIdx.x];
}

}  // namespace

extern "C" int self_test(int64_t which, int64_t blocks, int64_t threads, const int* in, int* out) {
  return cuda_emulation::guarded([=] {
    const dim3 grid(static_cast<unsigned>(blocks)), block(static_cast<unsigned>(threads));
    const size_t ints = static_cast<size_t>(threads) * sizeof(int);
    auto* counts = reinterpret_cast<unsigned long long*>(out);
    switch (which) {
      case 0:
        return launch(reverse_kernel<true>, grid, block, ints, nullptr, in, out);
      case 1:
        return launch(reverse_kernel<false>, grid, block, ints, nullptr, in, out);
      case 2:
        return launch(divergent_barrier_kernel, grid, block, 0, nullptr);
      case 3:
        return launch(early_return_kernel, grid, block, 0, nullptr);
      case 4:
        return launch(exited_lane_kernel, grid, block, 0, nullptr, out);
      case 5:
        return launch(unnamed_lane_kernel, grid, block, 0, nullptr, out);
      case 6:
        return launch(stray_lane_kernel, grid, block, 0, nullptr);
      case 7:
        return launch(misaligned_kernel, grid, block, 0, nullptr, reinterpret_cast<float*>(out));
      case 8:
        return launch(shared_overrun_kernel, grid, block, ints, nullptr);
      case 9:
        return launch(uninitialized_kernel, grid, block, ints, nullptr,
                      reinterpret_cast<float*>(out));
      case 10:
        return launch(warp_kernel, grid, block, 0, nullptr, in, out);
      case 11:
        return launch(histogram_kernel, grid, block, 0, nullptr, in, counts);
      case 12:
        return launch(racing_kernel, grid, block, 0, nullptr, in, counts);
      case 13:
        return launch(empty_kernel, dim3(1, static_cast<unsigned>(blocks)), block, 0, nullptr);
      case 14:
        return launch(empty_kernel, grid, block, static_cast<size_t>(blocks) << 10, nullptr);
      case 15:
        return launch(copy_kernel<true>, grid, block, ints, nullptr, in, out);
      case 16:
        return launch(copy_kernel<false>, grid, block, ints, nullptr, in, out);
      case 17:
        return fcn_ext::naming_build("CUDA 12.9", [] { throw fcn_ext::Refusal("input must not"); });
      case 18:
        return fcn_ext::naming_build("CUDA 12.9", [] { throw std::runtime_error("no memory"); });
      default:
        throw std::runtime_error("no such self-test: " + std::to_string(which));
    }
  });
}
