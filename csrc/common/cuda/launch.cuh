// The one way kernels are launched: by the CUDA runtime under nvcc, by the emulation elsewhere.
//
// Use: launch(my_kernel<float>, grid, block, shared_bytes, stream, arguments...). A grid without
// blocks launches nothing; a launch that fails throws std::runtime_error. Arguments are converted
// to the kernel's parameter types and passed by value, 4 KB in all.
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>

#include "common/cuda/device.cuh"
#include "common/refusal.h"

namespace fcn_ext {

constexpr int64_t kMostBlocks = 0x7fffffff;  // along x
constexpr int64_t kMostBlocksYZ = 65535;     // along y and z
constexpr size_t kSharedBytesWithoutOptIn = 48 << 10;

// Checks the number of blocks along x, which a grid holds in 32 bits.
inline unsigned blocks_along_x(int64_t blocks) {
  if (blocks > kMostBlocks) {
    throw Refusal("all sizes together must take fewer than 2**31 blocks of a GPU, got " +
                  std::to_string(blocks));
  }
  return static_cast<unsigned>(blocks);
}

// Calls body() and appends to its errors how the operators were built, except to refusals, which
// are about an argument, whatever the build.
template <typename Body>
void naming_build(const char* build, const Body& body) {
  try {
    body();
  } catch (const Refusal&) {
    throw;
  } catch (const std::runtime_error& error) {
    throw std::runtime_error(std::string(error.what()) +
                             " (fcn_ext's CUDA operators are built with " + build + ")");
  }
}

struct DeviceLimits {
  int multiprocessors;
  int shared_bytes_per_block;  // the most a kernel can be launched with
  int capability;              // 90 for sm_90
};

#if defined(FCN_EXT_CUDA_EMULATION)

inline DeviceLimits device_limits() {
  const auto& device = cuda_emulation::device();
  return {device.multiprocessors, device.shared_bytes_per_block, device.capability};
}

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t,
            const Arguments&... arguments) {
  static_assert((sizeof(Parameters) + ... + 0) <= 4096);
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) {
    return;
  }
  cuda_emulation::run(cuda_emulation::Launch(kernel, grid, block, shared_bytes,
                                             static_cast<Parameters>(arguments)...),
                      [=] { kernel(static_cast<Parameters>(arguments)...); });
}

#else

inline void check_cuda(cudaError_t error) {
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string("CUDA error: ") + cudaGetErrorString(error));
  }
}

// The limits of the current device.
inline DeviceLimits device_limits() {
  int device = 0;
  DeviceLimits limits{};
  check_cuda(cudaGetDevice(&device));
  check_cuda(
      cudaDeviceGetAttribute(&limits.multiprocessors, cudaDevAttrMultiProcessorCount, device));
  check_cuda(cudaDeviceGetAttribute(&limits.shared_bytes_per_block,
                                    cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  int major = 0, minor = 0;
  check_cuda(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  check_cuda(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  limits.capability = 10 * major + minor;
  return limits;
}

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            cudaStream_t stream, const Arguments&... arguments) {
  static_assert((sizeof(Parameters) + ... + 0) <= 4096);
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) {
    return;
  }
  if (shared_bytes > kSharedBytesWithoutOptIn) {
    // Always the device's maximum, not what this launch needs: another thread that launches the
    // same kernel with less must not lower the limit in between.
    check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                    cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    device_limits().shared_bytes_per_block));
  }
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  check_cuda(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
}

#endif

}  // namespace fcn_ext
