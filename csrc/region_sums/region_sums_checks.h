// Checks the arguments of region_sums and makes the problem that kernels take, on both devices.
#pragma once

#include "region_sums/region_sums.h"
#include "softmax/class_weight_checks.h"
#include "target/target_checks.h"

namespace fcn_ext {

inline RegionSums check_region_sums(const torch::stable::Tensor& input,
                                    const torch::stable::Tensor& target, const BilinearAxes& axes,
                                    const MaybeTensor& weight, int64_t ignore_index) {
  check_class_weight(input, weight);
  return {{input.size(0), input.size(1), axes.y, axes.x},
          strides_of(input),
          label_map(target),
          ignore_index};
}

// Checks the gradients of sums (3 or 4, N, C) and losses (2, N), in the accumulation type.
inline void check_region_gradients(const torch::stable::Tensor& grad_sums,
                                   const torch::stable::Tensor& grad_losses,
                                   const torch::stable::Tensor& input) {
  FCN_EXT_CHECK(grad_sums.dim() == 3 && (grad_sums.size(0) == 3 || grad_sums.size(0) == 4) &&
                    grad_sums.size(1) == input.size(0) && grad_sums.size(2) == input.size(1),
                "grad_sums must have shape (3 or 4, N, C) = (3 or 4, ", input.size(0), ", ",
                input.size(1), "), got ", shape_text(grad_sums));
  FCN_EXT_CHECK(grad_losses.dim() == 2 && (grad_losses.size(0) == 2 || grad_losses.size(0) == 0) &&
                    grad_losses.size(1) == input.size(0),
                "grad_losses must have shape (0 or 2, N) = (0 or 2, ", input.size(0), "), got ",
                shape_text(grad_losses));
  for (const auto& [gradient, name] :
       {std::pair{&grad_sums, "grad_sums"}, std::pair{&grad_losses, "grad_losses"}}) {
    FCN_EXT_CHECK(gradient->scalar_type() == accumulation_type(input.scalar_type()), name,
                  " must be ", dtype_text(accumulation_type(input.scalar_type())), ", got ",
                  dtype_text(*gradient));
    FCN_EXT_CHECK(gradient->device() == input.device(), name, " must be on the device of input");
  }
}

}  // namespace fcn_ext
