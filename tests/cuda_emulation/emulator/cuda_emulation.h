// A small emulation of the CUDA execution model: enough to compile this project's kernels with the
// host compiler and run them, one block after another, with a fiber for each thread.
//
// Use: compile with -DFCN_EXT_CUDA_EMULATION and this folder on the include path; csrc/common/
// device.cuh then includes this header instead of the CUDA runtime, and csrc/common/cuda/launch.cuh
// runs kernels here. Link the sources beside this file. An entry point for Python is
//
//     extern "C" int my_kernel(...) {
//       return cuda_emulation::guarded([=] { launch_my_kernel(...); });
//     }
//
// and library.py's `emulation.call("my_kernel", ...)` raises the message of what went wrong.
//
// What it finds: Threads and blocks run in an order drawn from a seed, so that a missing barrier or
// a race gives wrong values under some seed. Shared memory starts as NaN (all bits set) in every
// block, and the memory after it is checked. Errors that name the place in the source are: a
// barrier that not all threads reach, a shuffle whose mask names a lane that does not take part, a
// misaligned vector access, and a launch beyond the hardware's limits. Under AddressSanitizer,
// accesses outside shared, local and global memory are found where they happen; ../races finds
// accesses that nothing orders. Approximate functions are off by as much as hardware may be
// (approximations.h).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>

#include "approximations.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

using cudaStream_t = void*;

namespace cuda_emulation {

// ---------------------------------------------------------------- for tests

// What the emulated device offers; the values of an H100 unless a test says otherwise.
struct Device {
  int multiprocessors = 132;
  int shared_bytes_per_block = 232448;
  int capability = 90;
};
Device& device();

// The bytes that kernels moved through the access functions below, since the last reset.
struct Traffic {
  uint64_t loaded, stored;
  uint64_t vector_loads, vector_stores;  // accesses of 16 bytes
};
Traffic& traffic();

void set_seed(uint64_t seed);

// If set, gets launches instead of the emulation: the kernel's mangled name, grid and block (x, y,
// z each), bytes of shared memory, and the parameters.
using Taker = void (*)(const char* kernel, const unsigned* sizes, size_t shared_bytes,
                       const char* parameters, size_t parameter_bytes);
Taker& taker();

// Runs `work`. Returns 0, or 1 after an exception, whose message cuda_emulation_error() returns.
int guarded(const std::function<void()>& work);

// ---------------------------------------------------------------- for launch.cuh

// A launch. `parameters` has the arguments as a GPU's kernel finds them: one after another, each
// aligned to its type.
struct Launch {
  const void* kernel;
  dim3 grid, block;
  size_t shared_bytes;
  std::string parameters;

  template <typename... Parameters>
  Launch(void (*function)(Parameters...), dim3 blocks, dim3 threads, size_t bytes,
         const Parameters&... values)
      : kernel(reinterpret_cast<const void*>(function)),
        grid(blocks),
        block(threads),
        shared_bytes(bytes) {
    (append(&values, sizeof(Parameters), alignof(Parameters)), ...);
  }

 private:
  void append(const void* value, size_t bytes, size_t alignment) {
    parameters.resize((parameters.size() + alignment - 1) / alignment * alignment);
    parameters.append(static_cast<const char*>(value), bytes);
  }
};

void run(const Launch& launch, const std::function<void()>& kernel);

// ---------------------------------------------------------------- for the functions below

struct Site {
  const char* file;
  int line;
};

enum class Collective { kSyncWarp, kShuffle, kBallot, kMatch };

struct Block {
  dim3 grid, size, index;
  unsigned char* shared;
};
struct Thread {
  dim3 index;
  unsigned linear;
};
extern Block block;
extern const Thread* thread;

void barrier(Site site);
uint64_t collective(Collective kind, unsigned mask, uint64_t value, int source, Site site);
void copy_async(void* shared, const void* global, size_t bytes);
void commit_copies();
void wait_for_copies(size_t groups_left);
[[noreturn]] void fail(const std::string& message);

// Called before an access: counts it and requires an address that is a multiple of its size.
void note_load(const void* address, size_t bytes, size_t alignment);
void note_store(const void* address, size_t bytes, size_t alignment);

template <typename T>
T load(const T* address) {
  note_load(address, sizeof(T), alignof(T));
  T value;
  __builtin_memcpy(&value, address, sizeof(T));
  return value;
}

template <typename T>
void store(T* address, const T& value) {
  note_store(address, sizeof(T), alignof(T));
  __builtin_memcpy(address, &value, sizeof(T));
}

template <typename T>
T shuffle(unsigned mask, T value, int source, int width, Site site) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  if (width < 1 || width > 32 || (width & (width - 1)) != 0) {
    fail("the width of a shuffle must be a power of two up to 32, got " + std::to_string(width));
  }
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = collective(Collective::kShuffle, mask, bits, source, site);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

inline int lane() { return static_cast<int>(thread->linear % 32); }

}  // namespace cuda_emulation

#define threadIdx (::cuda_emulation::thread->index)
#define blockIdx (::cuda_emulation::block.index)
#define blockDim (::cuda_emulation::block.size)
#define gridDim (::cuda_emulation::block.grid)
constexpr int warpSize = 32;

#define CUDA_EMULATION_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(CUDA_EMULATION_SITE) { cuda_emulation::barrier({file, line}); }

inline void __syncwarp(unsigned mask = 0xffffffffu, CUDA_EMULATION_SITE) {
  cuda_emulation::collective(cuda_emulation::Collective::kSyncWarp, mask, 0, 0, {file, line});
}

template <typename T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, CUDA_EMULATION_SITE) {
  const int segment = cuda_emulation::lane() / width * width;
  return cuda_emulation::shuffle(mask, value, segment + (source & (width - 1)), width,
                                 {file, line});
}

template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, CUDA_EMULATION_SITE) {
  const int lane = cuda_emulation::lane();
  const int source = lane - static_cast<int>(delta);
  return cuda_emulation::shuffle(mask, value, source < lane / width * width ? lane : source, width,
                                 {file, line});
}

template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, CUDA_EMULATION_SITE) {
  const int lane = cuda_emulation::lane();
  const int source = lane + static_cast<int>(delta);
  return cuda_emulation::shuffle(mask, value, source >= (lane / width + 1) * width ? lane : source,
                                 width, {file, line});
}

template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = 32, CUDA_EMULATION_SITE) {
  const int lane = cuda_emulation::lane();
  const int source = lane ^ lane_mask;
  return cuda_emulation::shuffle(mask, value, source >= (lane / width + 1) * width ? lane : source,
                                 width, {file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, CUDA_EMULATION_SITE) {
  return static_cast<unsigned>(cuda_emulation::collective(cuda_emulation::Collective::kBallot, mask,
                                                          predicate != 0, 0, {file, line}));
}
inline int __any_sync(unsigned mask, int predicate, CUDA_EMULATION_SITE) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, CUDA_EMULATION_SITE) {
  return __ballot_sync(mask, predicate, file, line) == mask;
}

template <typename T>
unsigned __match_any_sync(unsigned mask, T value, CUDA_EMULATION_SITE) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8));
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return static_cast<unsigned>(
      cuda_emulation::collective(cuda_emulation::Collective::kMatch, mask, bits, 0, {file, line}));
}

#define CUDA_EMULATION_ATOMICS(T)   \
  T atomicAdd(T* address, T value); \
  T atomicCAS(T* address, T expected, T desired);
CUDA_EMULATION_ATOMICS(int)
CUDA_EMULATION_ATOMICS(unsigned)
CUDA_EMULATION_ATOMICS(unsigned long long)
#undef CUDA_EMULATION_ATOMICS
unsigned atomicInc(unsigned* address, unsigned most);
void __threadfence();

// Cached read-only, streaming (evict first) and plain accesses.
template <typename T>
T __ldg(const T* address) {
  return cuda_emulation::load(address);
}
template <typename T>
T __ldcs(const T* address) {
  return cuda_emulation::load(address);
}
template <typename T>
void __stcs(T* address, T value) {
  cuda_emulation::store(address, value);
}

// Asynchronous copies from global to shared memory: some happen at once, others as late as allowed.
inline void __pipeline_memcpy_async(void* shared, const void* global, size_t bytes) {
  cuda_emulation::copy_async(shared, global, bytes);
}
inline void __pipeline_commit() { cuda_emulation::commit_copies(); }
inline void __pipeline_wait_prior(size_t groups_left) {
  cuda_emulation::wait_for_copies(groups_left);
}

inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __ffsll(long long value) { return __builtin_ffsll(value); }
inline int __clz(int value) { return value == 0 ? 32 : __builtin_clz(value); }
