// The operators of the resampling engine, once for both devices: upsample, interpolate, fuse_skip.
#pragma once

#include <torch/csrc/stable/library.h>

#include <optional>
#include <vector>

#include "bilinear/bilinear_checks.h"

namespace fcn_ext {

// The window of a map to be added to a result.
struct SkipWindow {
  torch::stable::Tensor skip;
  int64_t offset_y, offset_x;
};

// output = resampled input (+ the window of skip that starts at its offset), laid out like `input`.
// grad_input = the transpose of that map applied to grad_output, laid out like `grad_output`.
using BilinearForwardFunction = torch::stable::Tensor(const torch::stable::Tensor& input,
                                                      const BilinearAxes& axes,
                                                      const SkipWindow* skip);
using BilinearBackwardFunction = torch::stable::Tensor(const torch::stable::Tensor& grad_output,
                                                       const BilinearAxes& axes);
struct BilinearCpu {
  static BilinearForwardFunction forward;
  static BilinearBackwardFunction backward;
};
struct BilinearCuda {
  static BilinearForwardFunction forward;
  static BilinearBackwardFunction backward;
};

template <typename Device>
struct BilinearOperators {
  using Tensor = torch::stable::Tensor;
  using Crop = std::optional<std::vector<int64_t>>;

  static Tensor upsample(Tensor input, int64_t stride, int64_t kernel_size, int64_t offset_y,
                         int64_t offset_x, int64_t output_height, int64_t output_width) {
    const Geometry geometry = deconvolution(stride, kernel_size, offset_y, offset_x);
    return Device::forward(
        input, check_forward(input, geometry, output_height, output_width, "output_size"), nullptr);
  }

  static Tensor upsample_backward(Tensor grad_output, int64_t stride, int64_t kernel_size,
                                  int64_t offset_y, int64_t offset_x, int64_t input_height,
                                  int64_t input_width) {
    const Geometry geometry = deconvolution(stride, kernel_size, offset_y, offset_x);
    return Device::backward(grad_output,
                            check_backward(grad_output, geometry, input_height, input_width));
  }

  static Tensor interpolate(Tensor input, int64_t output_height, int64_t output_width,
                            bool align_corners, Crop crop) {
    return Device::forward(input,
                           check_forward(input, check_resize(align_corners, crop), output_height,
                                         output_width, "size"),
                           nullptr);
  }

  static Tensor interpolate_backward(Tensor grad_output, int64_t input_height, int64_t input_width,
                                     bool align_corners, Crop crop) {
    return Device::backward(
        grad_output,
        check_backward(grad_output, check_resize(align_corners, crop), input_height, input_width));
  }

  static Tensor fuse_skip(Tensor coarse, Tensor skip, int64_t offset_y, int64_t offset_x,
                          int64_t stride) {
    const BilinearAxes axes = check_fuse_skip(coarse, skip, offset_y, offset_x, stride);
    const SkipWindow window{skip, offset_y, offset_x};
    return Device::forward(coarse, axes, &window);
  }

  template <typename Library>
  static void implement(Library& m) {
    m.impl("upsample", TORCH_BOX(&BilinearOperators::upsample));
    m.impl("upsample_backward", TORCH_BOX(&BilinearOperators::upsample_backward));
    m.impl("interpolate", TORCH_BOX(&BilinearOperators::interpolate));
    m.impl("interpolate_backward", TORCH_BOX(&BilinearOperators::interpolate_backward));
    m.impl("fuse_skip", TORCH_BOX(&BilinearOperators::fuse_skip));
  }
};

}  // namespace fcn_ext
