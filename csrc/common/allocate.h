// Uninitialised results and scratch on the device of another tensor.
//
// By the C function of the stable ABI that goes to the allocator at once. torch::stable::empty goes
// through the dispatcher, which finds the operator by its name in every call; and where torch is
// told to be deterministic, a CPU tensor is filled there before a kernel fills it.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <algorithm>
#include <array>
#include <initializer_list>

namespace fcn_ext {

// At most four sizes; with `channels_last`, four: (N, C, H, W).
inline torch::stable::Tensor empty_like_in(const torch::stable::Tensor& like,
                                           std::initializer_list<int64_t> sizes,
                                           torch::headeronly::ScalarType type,
                                           bool channels_last = false) {
  std::array<int64_t, 4> strides = {};
  auto lay_out = [&, stride = int64_t{1}](size_t dim) mutable {
    strides[dim] = stride;
    stride *= std::max<int64_t>(1, sizes.begin()[dim]);
  };
  if (channels_last) {
    for (const size_t dim : {1, 3, 2, 0}) {
      lay_out(dim);
    }
  } else {
    for (size_t dim = sizes.size(); dim-- > 0;) {
      lay_out(dim);
    }
  }
  int32_t device_type = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  AtenTensorHandle handle = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(
      static_cast<int64_t>(sizes.size()), sizes.begin(), strides.data(),
      torch::stable::detail::to<int32_t>(torch::stable::detail::from(type)), device_type,
      like.get_device_index(), &handle));
  return torch::stable::Tensor(handle);
}

}  // namespace fcn_ext
