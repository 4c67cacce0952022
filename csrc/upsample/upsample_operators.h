// The operators of upsample, once for both devices (BilinearCpu, BilinearCuda).
#pragma once

#include <torch/csrc/stable/library.h>

#include "upsample/upsample.h"

namespace fcn_ext {

template <typename Device>
struct UpsampleOperators {
  using Tensor = torch::stable::Tensor;

  static Tensor upsample(Tensor input, int64_t stride, int64_t kernel_size, int64_t offset_y,
                         int64_t offset_x, int64_t output_height, int64_t output_width) {
    return Device::forward(input, check_upsample(input, stride, kernel_size, offset_y, offset_x,
                                                 output_height, output_width));
  }

  static Tensor upsample_backward(Tensor grad_output, int64_t stride, int64_t kernel_size,
                                  int64_t offset_y, int64_t offset_x, int64_t input_height,
                                  int64_t input_width) {
    return Device::backward(
        grad_output, check_upsample_backward(grad_output, stride, kernel_size, offset_y, offset_x,
                                             input_height, input_width));
  }

  template <typename Library>
  static void implement(Library& m) {
    m.impl("upsample", TORCH_BOX(&UpsampleOperators::upsample));
    m.impl("upsample_backward", TORCH_BOX(&UpsampleOperators::upsample_backward));
  }
};

}  // namespace fcn_ext
