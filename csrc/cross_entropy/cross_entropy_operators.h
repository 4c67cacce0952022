// The operators of the cross-entropy, once for both devices. A Device computes the three results:
//
//     sum(input, target, axes, weight, ignore_index, label_smoothing, with_gradient)
//     pixels(input, target, axes, weight, ignore_index, label_smoothing)
//     pixels_backward(grad_output, input, target, axes, weight, ignore_index, label_smoothing)
#pragma once

#include <torch/csrc/stable/library.h>

#include "cross_entropy/cross_entropy_checks.h"

namespace fcn_ext {

// loss (), total_weight (), gradient
using CrossEntropySum =
    std::tuple<torch::stable::Tensor, torch::stable::Tensor, torch::stable::Tensor>;

template <typename Device>
struct CrossEntropyOperators {
  using Tensor = torch::stable::Tensor;

  static CrossEntropySum upsample_cross_entropy(Tensor input, Tensor target, int64_t stride,
                                                int64_t kernel_size, int64_t offset_y,
                                                int64_t offset_x, MaybeTensor weight,
                                                int64_t ignore_index, double label_smoothing,
                                                bool with_gradient) {
    return Device::sum(
        input, target,
        check_upsample_target(input, target, stride, kernel_size, offset_y, offset_x), weight,
        ignore_index, label_smoothing, with_gradient);
  }

  static Tensor upsample_cross_entropy_pixels(Tensor input, Tensor target, int64_t stride,
                                              int64_t kernel_size, int64_t offset_y,
                                              int64_t offset_x, MaybeTensor weight,
                                              int64_t ignore_index, double label_smoothing) {
    return Device::pixels(
        input, target,
        check_upsample_target(input, target, stride, kernel_size, offset_y, offset_x), weight,
        ignore_index, label_smoothing);
  }

  static Tensor upsample_cross_entropy_pixels_backward(Tensor grad_output, Tensor input,
                                                       Tensor target, int64_t stride,
                                                       int64_t kernel_size, int64_t offset_y,
                                                       int64_t offset_x, MaybeTensor weight,
                                                       int64_t ignore_index,
                                                       double label_smoothing) {
    return Device::pixels_backward(
        grad_output, input, target,
        check_upsample_target(input, target, stride, kernel_size, offset_y, offset_x), weight,
        ignore_index, label_smoothing);
  }

  static CrossEntropySum interpolate_cross_entropy(Tensor input, Tensor target, bool align_corners,
                                                   MaybeTensor weight, int64_t ignore_index,
                                                   double label_smoothing, bool with_gradient) {
    return Device::sum(input, target, check_interpolate_target(input, target, align_corners),
                       weight, ignore_index, label_smoothing, with_gradient);
  }

  static Tensor interpolate_cross_entropy_pixels(Tensor input, Tensor target, bool align_corners,
                                                 MaybeTensor weight, int64_t ignore_index,
                                                 double label_smoothing) {
    return Device::pixels(input, target, check_interpolate_target(input, target, align_corners),
                          weight, ignore_index, label_smoothing);
  }

  static Tensor interpolate_cross_entropy_pixels_backward(Tensor grad_output, Tensor input,
                                                          Tensor target, bool align_corners,
                                                          MaybeTensor weight, int64_t ignore_index,
                                                          double label_smoothing) {
    return Device::pixels_backward(grad_output, input, target,
                                   check_interpolate_target(input, target, align_corners), weight,
                                   ignore_index, label_smoothing);
  }

  template <typename Library>
  static void implement(Library& m) {
    m.impl("upsample_cross_entropy", TORCH_BOX(&CrossEntropyOperators::upsample_cross_entropy));
    m.impl("upsample_cross_entropy_pixels",
           TORCH_BOX(&CrossEntropyOperators::upsample_cross_entropy_pixels));
    m.impl("upsample_cross_entropy_pixels_backward",
           TORCH_BOX(&CrossEntropyOperators::upsample_cross_entropy_pixels_backward));
    m.impl("interpolate_cross_entropy",
           TORCH_BOX(&CrossEntropyOperators::interpolate_cross_entropy));
    m.impl("interpolate_cross_entropy_pixels",
           TORCH_BOX(&CrossEntropyOperators::interpolate_cross_entropy_pixels));
    m.impl("interpolate_cross_entropy_pixels_backward",
           TORCH_BOX(&CrossEntropyOperators::interpolate_cross_entropy_pixels_backward));
  }
};

}  // namespace fcn_ext
