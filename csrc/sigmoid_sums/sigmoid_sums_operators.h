// The operators of the sigmoid sums, once for both devices.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "sigmoid_sums/sigmoid_sums_checks.h"

namespace fcn_ext {

// What a device computes. sums, grad_output: (N, Q, 8) contiguous; gradient: as the input is laid
// out, dense. All in the accumulation type.
using SigmoidSumsFunction = void(const SigmoidSums& problem, const torch::stable::Tensor& input,
                                 const torch::stable::Tensor& target, torch::stable::Tensor& sums);
using SigmoidSumsBackwardFunction = void(const SigmoidSums& problem,
                                         const torch::stable::Tensor& grad_output,
                                         const torch::stable::Tensor& input,
                                         const torch::stable::Tensor& target,
                                         torch::stable::Tensor& gradient);
struct SigmoidSumsCpu {
  static SigmoidSumsFunction sums;
  static SigmoidSumsBackwardFunction backward;
};
struct SigmoidSumsCuda {
  static SigmoidSumsFunction sums;
  static SigmoidSumsBackwardFunction backward;
};

template <typename Device>
struct SigmoidSumsOperators {
  using Tensor = torch::stable::Tensor;

  static Tensor sigmoid_sums(Tensor input, Tensor target, std::vector<int64_t> geometry,
                             int64_t ignore_index, std::optional<double> gamma, bool regions) {
    const SigmoidSums problem =
        check_sigmoid_sums(input, target, geometry, ignore_index, gamma, regions);
    Tensor sums = empty_like_in(input, {input.size(0), input.size(1), int64_t{kSigmoidSums}},
                                accumulation_type(input.scalar_type()));
    Device::sums(problem, input, target, sums);
    return sums;
  }

  static Tensor sigmoid_sums_backward(Tensor grad_output, Tensor input, Tensor target,
                                      std::vector<int64_t> geometry, int64_t ignore_index,
                                      std::optional<double> gamma, bool regions) {
    const SigmoidSums problem =
        check_sigmoid_sums(input, target, geometry, ignore_index, gamma, regions);
    check_sum_gradient(grad_output, input);
    Tensor gradient =
        empty_like_in(input, {input.size(0), input.size(1), input.size(2), input.size(3)},
                      accumulation_type(input.scalar_type()), is_channels_last(input));
    Device::backward(problem, torch::stable::contiguous(grad_output), input, target, gradient);
    return gradient;
  }

  template <typename Library>
  static void implement(Library& m) {
    m.impl("sigmoid_sums", TORCH_BOX(&SigmoidSumsOperators::sigmoid_sums));
    m.impl("sigmoid_sums_backward", TORCH_BOX(&SigmoidSumsOperators::sigmoid_sums_backward));
  }
};

}  // namespace fcn_ext
