#include <torch/csrc/stable/library.h>

#include "interpolate/interpolate.h"

namespace fcn_ext {
namespace {

using torch::stable::Tensor;

Tensor interpolate_cuda(Tensor input, int64_t output_height, int64_t output_width,
                        bool align_corners) {
  const BilinearAxes axes = check_interpolate(input, output_height, output_width, align_corners);
  return bilinear_forward_cuda(input, axes.y, axes.x);
}

Tensor interpolate_backward_cuda(Tensor grad_output, int64_t input_height, int64_t input_width,
                                 bool align_corners) {
  const BilinearAxes axes =
      check_interpolate_backward(grad_output, input_height, input_width, align_corners);
  return bilinear_backward_cuda(grad_output, axes.y, axes.x);
}

}  // namespace
}  // namespace fcn_ext

STABLE_TORCH_LIBRARY_IMPL(fcn_ext, CUDA, m) {
  m.impl("interpolate", TORCH_BOX(&fcn_ext::interpolate_cuda));
  m.impl("interpolate_backward", TORCH_BOX(&fcn_ext::interpolate_backward_cuda));
}
