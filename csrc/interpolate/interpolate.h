// interpolate: arguments to axes. Shared by the CPU and the CUDA side.
#pragma once

#include "bilinear/bilinear_tensors.h"

namespace fcn_ext {

inline BilinearAxes interpolate_axes(int64_t input_height, int64_t input_width,
                                     int64_t output_height, int64_t output_width,
                                     bool align_corners) {
  return {interpolate_axis(input_height, output_height, align_corners),
          interpolate_axis(input_width, output_width, align_corners)};
}

inline void check_interpolate_size(const char* name, int64_t height, int64_t width) {
  FCN_EXT_CHECK(height >= 1 && width >= 1 && height <= kLargestSize && width <= kLargestSize, name,
                " must be in [1, 2**30], got (", height, ", ", width, ")");
}

inline BilinearAxes check_interpolate(const torch::stable::Tensor& input, int64_t output_height,
                                      int64_t output_width, bool align_corners) {
  check_map(input, "input");
  check_interpolate_size("size", output_height, output_width);
  return interpolate_axes(input.size(2), input.size(3), output_height, output_width, align_corners);
}

inline BilinearAxes check_interpolate_backward(const torch::stable::Tensor& grad_output,
                                               int64_t input_height, int64_t input_width,
                                               bool align_corners) {
  check_map(grad_output, "grad_output");
  check_interpolate_size("input size", input_height, input_width);
  return interpolate_axes(input_height, input_width, grad_output.size(2), grad_output.size(3),
                          align_corners);
}

}  // namespace fcn_ext
