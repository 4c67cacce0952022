// Uninitialized results and scratch on the device of another tensor.
//
// Made by a C function of the stable ABI, which on CPU goes straight to the allocator.
// torch::stable::empty goes through the dispatcher, which looks the operator up by name in every
// call; and in torch's deterministic mode it would fill a CPU tensor before a kernel does.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "common/check.h"
#include "common/large_pages.h"

namespace fcn_ext {

inline int64_t element_bytes(torch::headeronly::ScalarType type) {
  using torch::headeronly::ScalarType;
  switch (type) {
    case ScalarType::Double:
    case ScalarType::Long:
      return 8;
    case ScalarType::Float:
    case ScalarType::Int:
      return 4;
    case ScalarType::Half:
    case ScalarType::BFloat16:
    case ScalarType::Short:
      return 2;
    default:
      return 1;
  }
}

inline torch::stable::Tensor empty_strided(const torch::stable::Tensor& like, const int64_t* sizes,
                                           const int64_t* strides, size_t dims,
                                           torch::headeronly::ScalarType type) {
  using torch::stable::detail::from;
  using torch::stable::detail::to;
  int32_t device_type = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  AtenTensorHandle handle = nullptr;
  const AOTITorchError error =
      aoti_torch_empty_strided(static_cast<int64_t>(dims), sizes, strides, to<int32_t>(from(type)),
                               device_type, like.get_device_index(), &handle);
  if (error != AOTI_TORCH_SUCCESS) {
    throw std::runtime_error(join("out of memory? No tensor of shape ", sizes_text(sizes, dims),
                                  " and type ", dtype_text(type), " could be made"));
  }
  torch::stable::Tensor result(handle);
  if (device_type == aoti_torch_device_type_cpu()) {
    ask_for_large_pages(result.mutable_data_ptr(), result.numel() * element_bytes(type));
  }
  return result;
}

// channels_last is for four sizes, (N, C, H, W).
template <size_t dims>
torch::stable::Tensor empty_like_in(const torch::stable::Tensor& like, const int64_t (&sizes)[dims],
                                    torch::headeronly::ScalarType type,
                                    bool channels_last = false) {
  int64_t strides[dims];
  int64_t stride = 1;
  for (size_t i = 0; i < dims; ++i) {
    constexpr size_t kChannelsLast[] = {1, 3, 2, 0};
    const size_t dim = dims == 4 && channels_last ? kChannelsLast[i] : dims - 1 - i;
    strides[dim] = stride;
    FCN_EXT_CHECK(sizes[dim] <= std::numeric_limits<int64_t>::max() / stride,
                  "a result must have fewer than 2**63 elements, got ", sizes_text(sizes, dims));
    stride *= std::max<int64_t>(1, sizes[dim]);
  }
  return empty_strided(like, sizes, strides, dims, type);
}

inline torch::stable::Tensor empty_scalar(const torch::stable::Tensor& like,
                                          torch::headeronly::ScalarType type) {
  return empty_strided(like, nullptr, nullptr, 0, type);
}

}  // namespace fcn_ext
