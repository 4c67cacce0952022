// The operators of the argmax, once for both devices. A Device computes the two results:
//
//     labels(input, axes, dtype, with_probability)
//     count(input, target, axes, ignore_index, matrix, invalid)
#pragma once

#include <torch/csrc/stable/library.h>

#include "argmax/argmax_checks.h"
#include "common/target_checks.h"

namespace fcn_ext {

// labels (N, height, width), probability
using ArgmaxLabels = std::tuple<torch::stable::Tensor, torch::stable::Tensor>;

template <typename Device>
struct ArgmaxOperators {
  using ScalarType = torch::headeronly::ScalarType;
  using Tensor = torch::stable::Tensor;

  static ArgmaxLabels upsample_argmax(Tensor input, int64_t stride, int64_t kernel_size,
                                      int64_t offset_y, int64_t offset_x, int64_t output_height,
                                      int64_t output_width, ScalarType dtype,
                                      bool with_probability) {
    return Device::labels(
        input,
        check_upsample(input, stride, kernel_size, offset_y, offset_x, output_height, output_width),
        dtype, with_probability);
  }

  static ArgmaxLabels interpolate_argmax(Tensor input, int64_t output_height, int64_t output_width,
                                         bool align_corners, ScalarType dtype,
                                         bool with_probability) {
    return Device::labels(input,
                          check_interpolate(input, output_height, output_width, align_corners),
                          dtype, with_probability);
  }

  static void upsample_confusion_matrix(Tensor input, Tensor target, int64_t stride,
                                        int64_t kernel_size, int64_t offset_y, int64_t offset_x,
                                        int64_t ignore_index, Tensor matrix, Tensor invalid) {
    Device::count(input, target,
                  check_upsample_target(input, target, stride, kernel_size, offset_y, offset_x),
                  ignore_index, matrix, invalid);
  }

  static void interpolate_confusion_matrix(Tensor input, Tensor target, bool align_corners,
                                           int64_t ignore_index, Tensor matrix, Tensor invalid) {
    Device::count(input, target, check_interpolate_target(input, target, align_corners),
                  ignore_index, matrix, invalid);
  }

  template <typename Library>
  static void implement(Library& m) {
    m.impl("upsample_argmax", TORCH_BOX(&ArgmaxOperators::upsample_argmax));
    m.impl("interpolate_argmax", TORCH_BOX(&ArgmaxOperators::interpolate_argmax));
    m.impl("upsample_confusion_matrix", TORCH_BOX(&ArgmaxOperators::upsample_confusion_matrix));
    m.impl("interpolate_confusion_matrix",
           TORCH_BOX(&ArgmaxOperators::interpolate_confusion_matrix));
  }
};

}  // namespace fcn_ext
