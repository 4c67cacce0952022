// The operators of the sigmoid sums, once for both devices.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <tuple>

#include "sigmoid_sums/sigmoid_sums_checks.h"

namespace fcn_ext {

// What a device computes. sums: (N, Q, 8) contiguous. gradient: of the sum of weight * sums, dense,
// laid out like the input. weight: (Q, 8) or (N, Q, 8) contiguous. All are in the accumulation
// type, and null if not wanted.
using SigmoidSumsFunction = void(const SigmoidSums& problem, const torch::stable::Tensor& input,
                                 const torch::stable::Tensor* weight, torch::stable::Tensor* sums,
                                 torch::stable::Tensor* gradient);
// loss (N, Q): weighed() of each mask's sums.
using WeighSumsFunction = void(const SigmoidSums& problem, const torch::stable::Tensor& sums,
                               const torch::stable::Tensor& weight, torch::stable::Tensor& loss);
struct SigmoidSumsCpu {
  static SigmoidSumsFunction compute;
  static WeighSumsFunction weigh;
};
struct SigmoidSumsCuda {
  static SigmoidSumsFunction compute;
  static WeighSumsFunction weigh;
};

template <typename Device>
struct SigmoidSumsOperators {
  using Tensor = torch::stable::Tensor;

  static Tensor sigmoid_sums(Tensor input, Tensor target, std::vector<int64_t> geometry,
                             int64_t ignore_index, std::optional<double> gamma, bool regions) {
    const SigmoidSums problem =
        check_sigmoid_sums(input, target, geometry, ignore_index, gamma, regions);
    Tensor sums = empty_sums(input);
    Device::compute(problem, input, nullptr, &sums, nullptr);
    return sums;
  }

  static Tensor sigmoid_sums_backward(Tensor grad_output, Tensor input, Tensor target,
                                      std::vector<int64_t> geometry, int64_t ignore_index,
                                      std::optional<double> gamma, bool regions) {
    const SigmoidSums problem =
        check_sigmoid_sums(input, target, geometry, ignore_index, gamma, regions);
    check_sum_gradient(grad_output, input);
    Tensor gradient = empty_gradient(input);
    const Tensor weight = torch::stable::contiguous(grad_output);
    Device::compute(problem, input, &weight, nullptr, &gradient);
    return gradient;
  }

  static std::tuple<Tensor, Tensor, Tensor> sigmoid_loss(Tensor input, Tensor target, Tensor weight,
                                                         std::vector<int64_t> geometry,
                                                         int64_t ignore_index,
                                                         std::optional<double> gamma,
                                                         bool with_gradient) {
    const SigmoidSums problem =
        check_sigmoid_sums(input, target, geometry, ignore_index, gamma, false);
    check_sum_weight(weight, input);
    const auto type = accumulation_type(input.scalar_type());
    weight = torch::stable::contiguous(weight);
    Tensor sums = empty_sums(input);
    Tensor gradient = with_gradient ? empty_gradient(input) : empty_like_in(input, {0}, type);
    Device::compute(problem, input, &weight, &sums, with_gradient ? &gradient : nullptr);
    Tensor loss = empty_like_in(input, {input.size(0), input.size(1)}, type);
    Device::weigh(problem, sums, weight, loss);
    return {loss, sums, gradient};
  }

  template <typename Library>
  static void implement(Library& m) {
    m.impl("sigmoid_sums", TORCH_BOX(&SigmoidSumsOperators::sigmoid_sums));
    m.impl("sigmoid_sums_backward", TORCH_BOX(&SigmoidSumsOperators::sigmoid_sums_backward));
    m.impl("sigmoid_loss", TORCH_BOX(&SigmoidSumsOperators::sigmoid_loss));
  }

 private:
  static Tensor empty_sums(const Tensor& input) {
    return empty_like_in(input, {input.size(0), input.size(1), int64_t{kSigmoidSums}},
                         accumulation_type(input.scalar_type()));
  }
  static Tensor empty_gradient(const Tensor& input) {
    return empty_like_in(input, {input.size(0), input.size(1), input.size(2), input.size(3)},
                         accumulation_type(input.scalar_type()), is_channels_last(input));
  }
};

}  // namespace fcn_ext
