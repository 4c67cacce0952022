// The operators of region_sums, once for both devices.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "region_sums/region_sums_checks.h"

namespace fcn_ext {

// sums (3 or 4, N, C), losses (2, N), float64
using RegionSumsResult = std::tuple<torch::stable::Tensor, torch::stable::Tensor>;

// What a device computes; weight and gradients are contiguous.
using RegionSumsFunction = RegionSumsResult(const torch::stable::Tensor& input,
                                            const torch::stable::Tensor& target,
                                            const BilinearAxes& axes, const MaybeTensor& weight,
                                            int64_t ignore_index, bool squared, bool with_loss);
using RegionSumsBackwardFunction = torch::stable::Tensor(
    const torch::stable::Tensor& grad_sums, const torch::stable::Tensor& grad_losses,
    const torch::stable::Tensor& input, const torch::stable::Tensor& target,
    const BilinearAxes& axes, const MaybeTensor& weight, int64_t ignore_index);
struct RegionSumsCpu {
  static RegionSumsFunction forward;
  static RegionSumsBackwardFunction backward;
};
struct RegionSumsCuda {
  static RegionSumsFunction forward;
  static RegionSumsBackwardFunction backward;
};

template <typename Device>
struct RegionSumsOperators {
  using Tensor = torch::stable::Tensor;

  static RegionSumsResult region_sums(Tensor input, Tensor target, std::vector<int64_t> geometry,
                                      MaybeTensor weight, int64_t ignore_index, bool squared,
                                      bool with_loss) {
    return Device::forward(input, target, check_target(input, target, geometry),
                           contiguous_weight(weight), ignore_index, squared, with_loss);
  }

  static Tensor region_sums_backward(Tensor grad_sums, Tensor grad_losses, Tensor input,
                                     Tensor target, std::vector<int64_t> geometry,
                                     MaybeTensor weight, int64_t ignore_index) {
    const BilinearAxes axes = check_target(input, target, geometry);
    check_region_gradients(grad_sums, grad_losses, input);
    return Device::backward(torch::stable::contiguous(grad_sums),
                            torch::stable::contiguous(grad_losses), input, target, axes,
                            contiguous_weight(weight), ignore_index);
  }

  template <typename Library>
  static void implement(Library& m) {
    m.impl("region_sums", TORCH_BOX(&RegionSumsOperators::region_sums));
    m.impl("region_sums_backward", TORCH_BOX(&RegionSumsOperators::region_sums_backward));
  }
};

}  // namespace fcn_ext
