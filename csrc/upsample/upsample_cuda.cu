#include <torch/csrc/stable/library.h>

#include "upsample/upsample.h"

namespace fcn_ext {
namespace {

using torch::stable::Tensor;

Tensor upsample_cuda(Tensor input, int64_t stride, int64_t kernel_size, int64_t offset_y,
                     int64_t offset_x, int64_t output_height, int64_t output_width) {
  const BilinearAxes axes =
      check_upsample(input, stride, kernel_size, offset_y, offset_x, output_height, output_width);
  return bilinear_forward_cuda(input, axes.y, axes.x);
}

Tensor upsample_backward_cuda(Tensor grad_output, int64_t stride, int64_t kernel_size,
                              int64_t offset_y, int64_t offset_x, int64_t input_height,
                              int64_t input_width) {
  const BilinearAxes axes = check_upsample_backward(grad_output, stride, kernel_size, offset_y,
                                                    offset_x, input_height, input_width);
  return bilinear_backward_cuda(grad_output, axes.y, axes.x);
}

}  // namespace
}  // namespace fcn_ext

STABLE_TORCH_LIBRARY_IMPL(fcn_ext, CUDA, m) {
  m.impl("upsample", TORCH_BOX(&fcn_ext::upsample_cuda));
  m.impl("upsample_backward", TORCH_BOX(&fcn_ext::upsample_backward_cuda));
}
