// Kernels with a deliberate race, each next to a correct one, which the checker must tell apart.
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "common/cuda/launch.cuh"

namespace {

using fcn_ext::kFullMask;
using fcn_ext::launch;
using fcn_ext::shared_memory;

constexpr int kThreads = 64, kBlocks = 3;

__device__ int neighbor() { return static_cast<int>(threadIdx.x ^ 1); }

template <bool correct>
__global__ void write_read_kernel(int* out) {
  int* shared = shared_memory<int>();
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (correct) {
    __syncthreads();
  }
  out[blockIdx.x * kThreads + threadIdx.x] = shared[kThreads - 1 - threadIdx.x];
}

// Two threads write the same int: different values, or the same.
template <bool correct>
__global__ void write_write_kernel(int*) {
  shared_memory<int>()[threadIdx.x / 2] = static_cast<int>(correct ? 1 : threadIdx.x);
}

// The values are equal, the sizes are not.
template <bool correct>
__global__ void sizes_kernel(int*) {
  auto* shorts = shared_memory<uint16_t>();
  auto* bytes = reinterpret_cast<uint8_t*>(shorts);
  if (threadIdx.x % 2 == 0) {
    shorts[threadIdx.x / 2] = 0;
  } else {
    // After the shorts, or the second byte of what the previous thread writes.
    bytes[correct ? kThreads + threadIdx.x : threadIdx.x] = 0;
  }
}

// Threads that find something set a flag; all of them read it.
template <bool correct>
__global__ void flag_kernel(int* out) {
  int* flag = shared_memory<int>();
  if (threadIdx.x == 0) {
    *flag = 0;
  }
  __syncthreads();
  if (threadIdx.x % 5 == 0) {
    *flag = 1;
  }
  if (correct) {
    __syncthreads();
  }
  out[blockIdx.x * kThreads + threadIdx.x] = *flag;
}

// Every thread writes its own byte, or also the next one's.
template <bool correct>
__global__ void bytes_kernel(int*) {
  auto* bytes = shared_memory<uint8_t>();
  bytes[threadIdx.x] = static_cast<uint8_t>(threadIdx.x);
  if (!correct) {
    bytes[threadIdx.x + 1] = 0;
  }
}

enum class Meeting { kNowhere, kWarp, kHalf, kShuffle, kVote };

// Lanes pass values to their neighbors through shared memory.
template <Meeting meeting>
__global__ void warp_kernel(int* out) {
  int* shared = shared_memory<int>();
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (meeting == Meeting::kWarp) {
    __syncwarp();
  } else if (meeting == Meeting::kHalf) {
    // Each lane with others, but not with its neighbor.
    __syncwarp(threadIdx.x % 2 == 0 ? 0x55555555u : 0xaaaaaaaau);
  } else if (meeting == Meeting::kShuffle) {
    __shfl_xor_sync(kFullMask, 0, 1);
  } else if (meeting == Meeting::kVote) {
    __ballot_sync(kFullMask, 1);
  }
  out[blockIdx.x * kThreads + threadIdx.x] = shared[neighbor()];
}

// Lane 0 is ordered after lane 2 by way of lane 1.
template <bool correct>
__global__ void chain_kernel(int* out) {
  int* shared = shared_memory<int>();
  const unsigned lane = threadIdx.x;
  if (lane == 2) {
    shared[0] = 5;
  }
  if (lane == 1 || lane == (correct ? 2 : 3)) {
    __syncwarp(correct ? 6 : 10);
  }
  if (lane == 0 || lane == 1) {
    __syncwarp(3);
  }
  if (lane == 0) {
    out[blockIdx.x] = shared[0];
  }
}

template <bool correct>
__global__ void atomic_kernel(int* out) {
  if (correct || threadIdx.x % 2 == 0) {
    atomicAdd(out, 1);
  } else {
    ++*out;
  }
}

// Every block writes its own elements, or also the next block's.
template <bool correct>
__global__ void blocks_write_kernel(int* out) {
  out[blockIdx.x * kThreads + threadIdx.x] = 1;
  if (!correct) {
    out[(blockIdx.x + 1) % kBlocks * kThreads + threadIdx.x] = 2;
  }
}

template <bool correct>
__global__ void blocks_read_kernel(int* out) {
  const int other = static_cast<int>(correct ? blockIdx.x : (blockIdx.x + 1) % kBlocks);
  out[blockIdx.x * kThreads + threadIdx.x] = out[other * kThreads + threadIdx.x] + 1;
}

// Every block leaves its elements; the last block to arrive reads them all.
enum class Arrival {
  kCorrect,
  kNoBarrierBefore,
  kNoFenceBefore,
  kNoFenceAfter,
  kNoBarrierAfter,
  kOneTooEarly
};

template <Arrival arrival>
__global__ void arrivals_kernel(int* out) {
  int* shared = shared_memory<int>();
  auto* counter = reinterpret_cast<unsigned*>(out + kBlocks * kThreads);
  out[blockIdx.x * kThreads + threadIdx.x] = 1;
  if (arrival != Arrival::kNoBarrierBefore) {
    __syncthreads();
  }
  if (threadIdx.x == 0) {
    if (arrival != Arrival::kNoFenceBefore) {
      __threadfence();
    }
    const unsigned before = atomicInc(counter, kBlocks - 1);
    if (arrival != Arrival::kNoFenceAfter) {
      __threadfence();
    }
    shared[0] = before == kBlocks - (arrival == Arrival::kOneTooEarly ? 2 : 1);
  }
  if (arrival == Arrival::kNoBarrierAfter) {
    __syncwarp();
  } else {
    __syncthreads();
  }
  // Not the thread that arrived, but one of its warp.
  if (threadIdx.x == 1 && shared[0] != 0) {
    int sum = 0;
    for (int k = 0; k < kBlocks * kThreads; ++k) {
      sum += out[k];
    }
    out[kBlocks * kThreads + 1] = sum;
  }
}

// The first block writes, the second block meets it, and the third meets the second.
template <bool correct>
__global__ void passed_on_kernel(int* out) {
  auto* counters = reinterpret_cast<unsigned*>(out + kBlocks * kThreads);
  unsigned turn = 0;
  if (threadIdx.x == 0) {
    turn = atomicAdd(counters, 1u) % kBlocks;
    if (turn == 0) {
      out[0] = 1;
    }
  }
  __syncthreads();
  if (threadIdx.x != 0) {
    return;
  }
  __threadfence();
  if (turn < 2) {
    atomicAdd(counters + 1, 1u);
  }
  if (correct) {
    __threadfence();
  }
  if (turn > 0) {
    atomicAdd(counters + 2, 1u);
  }
  __threadfence();
  if (turn == 2) {
    out[1] = out[0];
  }
}

// Through global memory, within a block.
template <bool correct>
__global__ void global_kernel(int* out) {
  int* own = out + blockIdx.x * kThreads;
  own[threadIdx.x] = static_cast<int>(threadIdx.x);
  if (correct) {
    __syncthreads();
  }
  const int value = own[neighbor()];
  __syncthreads();
  own[threadIdx.x] = value;
}

// One thread writes for all, by a library call whose size the compiler cannot know.
template <bool correct>
__global__ void range_kernel(int* out) {
  int* shared = shared_memory<int>();
  if (threadIdx.x == 0) {
    std::memset(shared, 1, out == nullptr ? 0 : kThreads * sizeof(int));
  }
  if (correct) {
    __syncthreads();
  }
  out[blockIdx.x * kThreads + threadIdx.x] = shared[threadIdx.x];
}

// Every thread copies an element and reads its own or its neighbor's.
enum class Copy { kOwn, kOwnBeforeWait, kNeighbor, kNeighborBeforeBarrier, kSourceWritten };

template <Copy copy>
__global__ void copy_kernel(int* out) {
  int* shared = shared_memory<int>();
  int* source = out + blockIdx.x * kThreads;
  __pipeline_memcpy_async(shared + threadIdx.x, source + threadIdx.x, sizeof(int));
  __pipeline_commit();
  if (copy == Copy::kSourceWritten) {
    __syncthreads();
    source[neighbor()] = 1;
  }
  __pipeline_wait_prior(copy == Copy::kOwnBeforeWait ? 1 : 0);
  if (copy == Copy::kNeighbor) {
    __syncthreads();
  }
  const bool own = copy == Copy::kOwn || copy == Copy::kOwnBeforeWait;
  const int value = copy == Copy::kSourceWritten ? 0 : shared[own ? threadIdx.x : neighbor()];
  __syncthreads();
  source[threadIdx.x] = value;
}

template <void (*kernel)(int*)>
void run() {
  std::vector<int> out(kBlocks * kThreads + 3);
  for (int k = 0; k < 2; ++k) {  // launches come one after another
    launch(kernel, dim3(kBlocks), dim3(kThreads), (kThreads + 1) * sizeof(int), nullptr,
           out.data());
  }
}

const std::map<std::string, void (*)()> kCases{
    {"write, read", run<write_read_kernel<true>>},
    {"write, read: no barrier", run<write_read_kernel<false>>},
    {"same values", run<write_write_kernel<true>>},
    {"different values", run<write_write_kernel<false>>},
    {"different bytes", run<bytes_kernel<true>>},
    {"same byte", run<bytes_kernel<false>>},
    {"sizes", run<sizes_kernel<true>>},
    {"same values of different sizes", run<sizes_kernel<false>>},
    {"flag", run<flag_kernel<true>>},
    {"flag: no barrier", run<flag_kernel<false>>},
    {"range", run<range_kernel<true>>},
    {"range: no barrier", run<range_kernel<false>>},
    {"warp", run<warp_kernel<Meeting::kWarp>>},
    {"warp: nowhere", run<warp_kernel<Meeting::kNowhere>>},
    {"warp: other lanes", run<warp_kernel<Meeting::kHalf>>},
    {"warp: shuffle", run<warp_kernel<Meeting::kShuffle>>},
    {"warp: vote", run<warp_kernel<Meeting::kVote>>},
    {"chain of lanes", run<chain_kernel<true>>},
    {"broken chain of lanes", run<chain_kernel<false>>},
    {"atomic", run<atomic_kernel<true>>},
    {"atomic and plain", run<atomic_kernel<false>>},
    {"global", run<global_kernel<true>>},
    {"global: no barrier", run<global_kernel<false>>},
    {"blocks", run<blocks_write_kernel<true>>},
    {"blocks write", run<blocks_write_kernel<false>>},
    {"blocks read own", run<blocks_read_kernel<true>>},
    {"blocks read others'", run<blocks_read_kernel<false>>},
    {"arrivals", run<arrivals_kernel<Arrival::kCorrect>>},
    {"arrivals: no barrier before", run<arrivals_kernel<Arrival::kNoBarrierBefore>>},
    {"arrivals: no fence before", run<arrivals_kernel<Arrival::kNoFenceBefore>>},
    {"arrivals: no fence after", run<arrivals_kernel<Arrival::kNoFenceAfter>>},
    {"arrivals: no barrier after", run<arrivals_kernel<Arrival::kNoBarrierAfter>>},
    {"arrivals: one too early", run<arrivals_kernel<Arrival::kOneTooEarly>>},
    {"arrivals passed on", run<passed_on_kernel<true>>},
    {"arrivals passed on: no fence", run<passed_on_kernel<false>>},
    {"copy", run<copy_kernel<Copy::kOwn>>},
    {"copy: no wait", run<copy_kernel<Copy::kOwnBeforeWait>>},
    {"neighbor's copy", run<copy_kernel<Copy::kNeighbor>>},
    {"neighbor's copy: no barrier", run<copy_kernel<Copy::kNeighborBeforeBarrier>>},
    {"copy: source written", run<copy_kernel<Copy::kSourceWritten>>},
};

}  // namespace

extern "C" int planted_race(const char* name) {
  return cuda_emulation::guarded([=] { kCases.at(name)(); });
}
