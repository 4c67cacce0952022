// The tensors around the resampling engine: how a map is viewed, and how a result is laid out.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>

#include "bilinear/bilinear.h"
#include "common/allocate.h"
#include "common/check.h"

namespace fcn_ext {

inline PlaneStrides strides_of(const torch::stable::Tensor& map) {
  return {map.stride(0), map.stride(1), map.stride(2), map.stride(3)};
}

// Channels side by side: what torch calls channels_last, of a dense map or a window of one.
// fcn_ext/ops/_common.py states the same rule for the shapes that torch.compile traces.
inline bool is_channels_last(const torch::stable::Tensor& map) {
  return map.size(1) > 1 && map.stride(1) == 1 && map.stride(3) >= map.size(1);
}

inline torch::stable::Tensor empty_map(const torch::stable::Tensor& like, int64_t height,
                                       int64_t width, bool channels_last) {
  return empty_like_in(like, {like.size(0), like.size(1), height, width}, like.scalar_type(),
                       channels_last);
}

// output = resampled input (+ the window of skip that starts at skip_offset), laid out as `input`.
// grad_input = the transpose of that map applied to grad_output, laid out as `grad_output`.
// A device is what operators are written for: bilinear_cpu.cpp, bilinear_cuda.cu.
struct SkipWindow {
  torch::stable::Tensor skip;
  int64_t offset_y, offset_x;
};

struct BilinearCpu {
  static torch::stable::Tensor forward(const torch::stable::Tensor& input, const BilinearAxes& axes,
                                       const SkipWindow* skip = nullptr);
  static torch::stable::Tensor backward(const torch::stable::Tensor& grad_output,
                                        const BilinearAxes& axes);
};
struct BilinearCuda {
  static torch::stable::Tensor forward(const torch::stable::Tensor& input, const BilinearAxes& axes,
                                       const SkipWindow* skip = nullptr);
  static torch::stable::Tensor backward(const torch::stable::Tensor& grad_output,
                                        const BilinearAxes& axes);
};

}  // namespace fcn_ext
