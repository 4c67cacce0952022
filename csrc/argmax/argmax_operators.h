// The operators of the argmax, once for both devices.
#pragma once

#include <torch/csrc/stable/library.h>

#include "argmax/argmax_checks.h"

namespace fcn_ext {

// labels (N, height, width), probability
using ArgmaxLabels = std::tuple<torch::stable::Tensor, torch::stable::Tensor>;

// What a device computes: labels, or their counts against a target.
using ArgmaxLabelsFunction = ArgmaxLabels(const torch::stable::Tensor& input,
                                          const BilinearAxes& axes,
                                          torch::headeronly::ScalarType dtype,
                                          bool with_probability);
using ArgmaxCountFunction = void(const torch::stable::Tensor& input,
                                 const torch::stable::Tensor& target, const BilinearAxes& axes,
                                 int64_t ignore_index, torch::stable::Tensor& matrix,
                                 torch::stable::Tensor& invalid);
// hits (2,): the number of pixels that count, and of those whose label is the target's.
using ArgmaxHitsFunction = void(const torch::stable::Tensor& input,
                                const torch::stable::Tensor& target, const BilinearAxes& axes,
                                int64_t ignore_index, torch::stable::Tensor& hits);
struct ArgmaxCpu {
  static ArgmaxLabelsFunction labels;
  static ArgmaxCountFunction count;
};
struct ArgmaxCuda {
  static ArgmaxLabelsFunction labels;
  static ArgmaxCountFunction count;
  static ArgmaxHitsFunction hits;
};

template <typename Device>
struct ArgmaxOperators {
  using Tensor = torch::stable::Tensor;

  static ArgmaxLabels argmax(Tensor input, int64_t output_height, int64_t output_width,
                             std::vector<int64_t> geometry, torch::headeronly::ScalarType dtype,
                             bool with_probability) {
    return Device::labels(
        input, check_forward(input, check_geometry(geometry), output_height, output_width, "size"),
        dtype, with_probability);
  }

  static void score_confusion_matrix(Tensor input, Tensor target, std::vector<int64_t> geometry,
                                     int64_t ignore_index, Tensor matrix, Tensor invalid) {
    const BilinearAxes axes = check_target(input, target, geometry);
    check_argmax_counts(input, target, matrix, invalid);
    Device::count(input, target, axes, ignore_index, matrix, invalid);
  }

  template <typename Library>
  static void implement(Library& m) {
    m.impl("argmax", TORCH_BOX(&ArgmaxOperators::argmax));
    m.impl("score_confusion_matrix", TORCH_BOX(&ArgmaxOperators::score_confusion_matrix));
  }
};

}  // namespace fcn_ext
