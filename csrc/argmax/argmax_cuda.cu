#include <torch/csrc/stable/library.h>

#include <tuple>

#include "argmax/argmax_kernels.cuh"
#include "argmax/argmax_tensors.h"
#include "cells/target_tensors.h"
#include "common/cuda.h"

namespace fcn_ext {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

using Labels = std::tuple<Tensor, Tensor>;

BilinearShape shape_of(const Tensor& input, const BilinearAxes& axes) {
  return {input.size(0), input.size(1), axes.y, axes.x};
}

Labels argmax_cuda(const Tensor& input, const BilinearAxes& axes, ScalarType dtype,
                   bool with_probability) {
  ArgmaxResult result = empty_argmax(input, axes, dtype, with_probability);
  if (result.labels.numel() > 0) {
    on_device_of(input, [&](cudaStream_t stream) {
      dispatch_floating(input.scalar_type(), [&](auto zero) {
        using scalar_t = decltype(zero);
        void* probability = with_probability ? result.probability.mutable_data_ptr() : nullptr;
        launch_argmax(shape_of(input, axes), static_cast<const scalar_t*>(input.const_data_ptr()),
                      strides_of(input), result.labels.mutable_data_ptr(), label_index(dtype),
                      static_cast<accumulate_of<scalar_t>*>(probability), stream);
      });
    });
  }
  return {result.labels, result.probability};
}

void count_cuda(const Tensor& input, const Tensor& target, const BilinearAxes& axes,
                int64_t ignore_index, Tensor& matrix, Tensor& invalid) {
  check_argmax_counts(input, target, matrix, invalid);
  if (target.numel() == 0) {
    return;
  }
  on_device_of(input, [&](cudaStream_t stream) {
    dispatch_floating(input.scalar_type(), [&](auto zero) {
      using scalar_t = decltype(zero);
      launch_argmax_confusion(
          shape_of(input, axes), static_cast<const scalar_t*>(input.const_data_ptr()),
          strides_of(input), label_map(target), ignore_index, matrix.mutable_data_ptr<int64_t>(),
          invalid.mutable_data_ptr<int64_t>(), stream);
    });
  });
}

Labels upsample_argmax_cuda(Tensor input, int64_t stride, int64_t kernel_size, int64_t offset_y,
                            int64_t offset_x, int64_t output_height, int64_t output_width,
                            ScalarType dtype, bool with_probability) {
  return argmax_cuda(
      input,
      check_upsample(input, stride, kernel_size, offset_y, offset_x, output_height, output_width),
      dtype, with_probability);
}

Labels interpolate_argmax_cuda(Tensor input, int64_t output_height, int64_t output_width,
                               bool align_corners, ScalarType dtype, bool with_probability) {
  return argmax_cuda(input, check_interpolate(input, output_height, output_width, align_corners),
                     dtype, with_probability);
}

void upsample_confusion_matrix_cuda(Tensor input, Tensor target, int64_t stride,
                                    int64_t kernel_size, int64_t offset_y, int64_t offset_x,
                                    int64_t ignore_index, Tensor matrix, Tensor invalid) {
  count_cuda(input, target,
             check_upsample_target(input, target, stride, kernel_size, offset_y, offset_x),
             ignore_index, matrix, invalid);
}

void interpolate_confusion_matrix_cuda(Tensor input, Tensor target, bool align_corners,
                                       int64_t ignore_index, Tensor matrix, Tensor invalid) {
  count_cuda(input, target, check_interpolate_target(input, target, align_corners), ignore_index,
             matrix, invalid);
}

}  // namespace
}  // namespace fcn_ext

STABLE_TORCH_LIBRARY_IMPL(fcn_ext, CUDA, m) {
  m.impl("upsample_argmax", TORCH_BOX(&fcn_ext::upsample_argmax_cuda));
  m.impl("interpolate_argmax", TORCH_BOX(&fcn_ext::interpolate_argmax_cuda));
  m.impl("upsample_confusion_matrix", TORCH_BOX(&fcn_ext::upsample_confusion_matrix_cuda));
  m.impl("interpolate_confusion_matrix", TORCH_BOX(&fcn_ext::interpolate_confusion_matrix_cuda));
}
