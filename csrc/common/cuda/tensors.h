// The torch side of a CUDA operator: its device, its stream and its element type.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <optional>

#include "common/allocate.h"
#include "common/check.h"
#include "common/cuda/launch.cuh"

namespace fcn_ext {

// Runs body(stream) with the tensor's device as the current one; `stream` is torch's current stream
// on that device. The host never waits.
template <typename Body>
void on_device_of(const torch::stable::Tensor& tensor, const Body& body) {
  const int32_t device = tensor.get_device_index();
  const torch::stable::accelerator::DeviceGuard guard(device);
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
  naming_build(FCN_EXT_CUDA_BUILD, [&] {
    // The guard sets the device in torch's CUDA runtime; ours is linked statically and has its own.
    check_cuda(cudaSetDevice(device));
    body(static_cast<cudaStream_t>(stream));
  });
}

// Calls body(scalar_t()) with the kernels' type for a floating-point dtype.
template <typename Body>
void dispatch_floating(torch::headeronly::ScalarType type, const Body& body) {
  using torch::headeronly::ScalarType;
  switch (type) {
    case ScalarType::Float:
      return body(float());
    case ScalarType::Double:
      return body(double());
    case ScalarType::Half:
      return body(c10::Half());
    default:
      return body(c10::BFloat16());
  }
}

// Uninitialized memory that kernels pass results in.
inline torch::stable::Tensor workspace_of(const torch::stable::Tensor& input, size_t bytes) {
  return empty_like_in(input, {static_cast<int64_t>(bytes)}, torch::headeronly::ScalarType::Byte);
}

template <typename T>
const T* data_of(const torch::stable::Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}
template <typename T>
const T* data_of(const std::optional<torch::stable::Tensor>& tensor) {
  return tensor.has_value() ? data_of<T>(*tensor) : nullptr;
}
template <typename T>
T* result_of(torch::stable::Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

}  // namespace fcn_ext
