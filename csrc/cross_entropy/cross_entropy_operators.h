// The operators of the cross-entropy, once for both devices.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "cross_entropy/cross_entropy_checks.h"

namespace fcn_ext {

// loss (), total_weight (), gradient
using CrossEntropySum =
    std::tuple<torch::stable::Tensor, torch::stable::Tensor, torch::stable::Tensor>;

// the same with hits (2,)
using CrossEntropySumHits = std::tuple<torch::stable::Tensor, torch::stable::Tensor,
                                       torch::stable::Tensor, torch::stable::Tensor>;
// loss (N, H, W), hits (2,)
using CrossEntropyPixelsHits = std::tuple<torch::stable::Tensor, torch::stable::Tensor>;

// What a device computes; weight and grad_output are contiguous. hits: from empty_hits(), to be
// filled, or null.
using CrossEntropySumFunction = CrossEntropySum(const torch::stable::Tensor& input,
                                                const torch::stable::Tensor& target,
                                                const BilinearAxes& axes, const MaybeTensor& weight,
                                                int64_t ignore_index, double label_smoothing,
                                                bool mean, bool with_gradient,
                                                torch::stable::Tensor* hits);
using CrossEntropyPixelsFunction =
    torch::stable::Tensor(const torch::stable::Tensor& input, const torch::stable::Tensor& target,
                          const BilinearAxes& axes, const MaybeTensor& weight, int64_t ignore_index,
                          double label_smoothing, torch::stable::Tensor* hits);
using CrossEntropyPixelsBackwardFunction = torch::stable::Tensor(
    const torch::stable::Tensor& grad_output, const torch::stable::Tensor& input,
    const torch::stable::Tensor& target, const BilinearAxes& axes, const MaybeTensor& weight,
    int64_t ignore_index, double label_smoothing);
using ScaleGradientFunction = void(torch::stable::Tensor& gradient,
                                   const torch::stable::Tensor& factor);
struct CrossEntropyCpu {
  static ScaleGradientFunction scale_gradient;
  static CrossEntropySumFunction sum;
  static CrossEntropyPixelsFunction pixels;
  static CrossEntropyPixelsBackwardFunction pixels_backward;
};
struct CrossEntropyCuda {
  static ScaleGradientFunction scale_gradient;
  static CrossEntropySumFunction sum;
  static CrossEntropyPixelsFunction pixels;
  static CrossEntropyPixelsBackwardFunction pixels_backward;
};

template <typename Device>
struct CrossEntropyOperators {
  using Tensor = torch::stable::Tensor;

  static CrossEntropySum cross_entropy(Tensor input, Tensor target, std::vector<int64_t> geometry,
                                       MaybeTensor weight, int64_t ignore_index,
                                       double label_smoothing, bool mean, bool with_gradient) {
    return Device::sum(input, target, check_target(input, target, geometry),
                       contiguous_weight(weight), ignore_index, label_smoothing, mean,
                       with_gradient, nullptr);
  }

  static CrossEntropySumHits cross_entropy_hits(Tensor input, Tensor target,
                                                std::vector<int64_t> geometry, MaybeTensor weight,
                                                int64_t ignore_index, double label_smoothing,
                                                bool mean, bool with_gradient) {
    const BilinearAxes axes = check_target(input, target, geometry);
    Tensor hits = empty_hits(input);
    const auto [loss, total_weight, gradient] =
        Device::sum(input, target, axes, contiguous_weight(weight), ignore_index, label_smoothing,
                    mean, with_gradient, &hits);
    return {loss, total_weight, gradient, hits};
  }

  static void scale_gradient(Tensor gradient, Tensor factor) {
    check_scale(gradient, factor);
    Device::scale_gradient(gradient, factor);
  }

  static Tensor cross_entropy_pixels(Tensor input, Tensor target, std::vector<int64_t> geometry,
                                     MaybeTensor weight, int64_t ignore_index,
                                     double label_smoothing) {
    return Device::pixels(input, target, check_target(input, target, geometry),
                          contiguous_weight(weight), ignore_index, label_smoothing, nullptr);
  }

  static CrossEntropyPixelsHits cross_entropy_pixels_hits(Tensor input, Tensor target,
                                                          std::vector<int64_t> geometry,
                                                          MaybeTensor weight, int64_t ignore_index,
                                                          double label_smoothing) {
    const BilinearAxes axes = check_target(input, target, geometry);
    Tensor hits = empty_hits(input);
    return {Device::pixels(input, target, axes, contiguous_weight(weight), ignore_index,
                           label_smoothing, &hits),
            hits};
  }

  static Tensor cross_entropy_pixels_backward(Tensor grad_output, Tensor input, Tensor target,
                                              std::vector<int64_t> geometry, MaybeTensor weight,
                                              int64_t ignore_index, double label_smoothing) {
    const BilinearAxes axes = check_target(input, target, geometry);
    check_pixel_gradient(grad_output, input, target);
    return Device::pixels_backward(torch::stable::contiguous(grad_output), input, target, axes,
                                   contiguous_weight(weight), ignore_index, label_smoothing);
  }

  template <typename Library>
  static void implement(Library& m) {
    m.impl("cross_entropy", TORCH_BOX(&CrossEntropyOperators::cross_entropy));
    m.impl("cross_entropy_hits", TORCH_BOX(&CrossEntropyOperators::cross_entropy_hits));
    m.impl("scale_gradient", TORCH_BOX(&CrossEntropyOperators::scale_gradient));
    m.impl("cross_entropy_pixels", TORCH_BOX(&CrossEntropyOperators::cross_entropy_pixels));
    m.impl("cross_entropy_pixels_hits",
           TORCH_BOX(&CrossEntropyOperators::cross_entropy_pixels_hits));
    m.impl("cross_entropy_pixels_backward",
           TORCH_BOX(&CrossEntropyOperators::cross_entropy_pixels_backward));
  }
};

}  // namespace fcn_ext
