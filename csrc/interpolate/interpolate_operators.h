// The operators of interpolate, once for both devices (BilinearCpu, BilinearCuda).
#pragma once

#include <torch/csrc/stable/library.h>

#include "interpolate/interpolate.h"

namespace fcn_ext {

template <typename Device>
struct InterpolateOperators {
  using Tensor = torch::stable::Tensor;

  static Tensor interpolate(Tensor input, int64_t output_height, int64_t output_width,
                            bool align_corners) {
    return Device::forward(input,
                           check_interpolate(input, output_height, output_width, align_corners));
  }

  static Tensor interpolate_backward(Tensor grad_output, int64_t input_height, int64_t input_width,
                                     bool align_corners) {
    return Device::backward(grad_output, check_interpolate_backward(grad_output, input_height,
                                                                    input_width, align_corners));
  }

  template <typename Library>
  static void implement(Library& m) {
    m.impl("interpolate", TORCH_BOX(&InterpolateOperators::interpolate));
    m.impl("interpolate_backward", TORCH_BOX(&InterpolateOperators::interpolate_backward));
  }
};

}  // namespace fcn_ext
