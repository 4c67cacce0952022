// upsample: arguments to axes. Shared by the CPU and the CUDA side.
#pragma once

#include "bilinear/bilinear_tensors.h"

namespace fcn_ext {

inline void check_upsample_kernel(int64_t stride, int64_t kernel_size) {
  FCN_EXT_CHECK(stride >= 1 && stride <= kLargestSize, "stride must be in [1, 2**30], got ",
                stride);
  FCN_EXT_CHECK(kernel_size == 2 * stride || kernel_size == 2 * stride - 1,
                "kernel_size must be 2 * stride or 2 * stride - 1 = ", 2 * stride, " or ",
                2 * stride - 1, ", got ", kernel_size);
}

inline BilinearAxis check_upsample_axis(const char* axis, int64_t input_size, int64_t output_size,
                                        int64_t stride, int64_t kernel_size, int64_t offset) {
  const int64_t full = upsampled_size(input_size, stride, kernel_size);
  FCN_EXT_CHECK(full <= kLargestSize, "stride must keep the upsampled ", axis,
                " at most 2**30, got ", stride, " for ", input_size);
  FCN_EXT_CHECK(offset >= 0, "offset must be >= 0, got ", offset, " along the ", axis);
  FCN_EXT_CHECK(output_size >= 1, "output_size must be >= 1, got ", output_size, " along the ",
                axis);
  FCN_EXT_CHECK(output_size <= full && offset <= full - output_size,
                "offset + output_size must be at most the upsampled ", axis, " ", full, ", got ",
                offset, " + ", output_size);
  return upsample_axis(input_size, output_size, stride, kernel_size, offset);
}

inline BilinearAxes check_upsample(const torch::stable::Tensor& input, int64_t stride,
                                   int64_t kernel_size, int64_t offset_y, int64_t offset_x,
                                   int64_t output_height, int64_t output_width) {
  check_map(input, "input");
  check_upsample_kernel(stride, kernel_size);
  return {
      check_upsample_axis("height", input.size(2), output_height, stride, kernel_size, offset_y),
      check_upsample_axis("width", input.size(3), output_width, stride, kernel_size, offset_x)};
}

inline BilinearAxes check_upsample_backward(const torch::stable::Tensor& grad_output,
                                            int64_t stride, int64_t kernel_size, int64_t offset_y,
                                            int64_t offset_x, int64_t input_height,
                                            int64_t input_width) {
  check_map(grad_output, "grad_output");
  check_upsample_kernel(stride, kernel_size);
  FCN_EXT_CHECK(input_height >= 1 && input_width >= 1 && input_height <= kLargestSize &&
                    input_width <= kLargestSize,
                "input size must be in [1, 2**30], got (", input_height, ", ", input_width, ")");
  return {check_upsample_axis("height", input_height, grad_output.size(2), stride, kernel_size,
                              offset_y),
          check_upsample_axis("width", input_width, grad_output.size(3), stride, kernel_size,
                              offset_x)};
}

}  // namespace fcn_ext
