// Checks the arguments of sigmoid_sums and makes the problem that kernels take, on both devices.
// fcn_ext/_mask_rules.py has the same rules in the same order and words.
#pragma once

#include <algorithm>
#include <optional>

#include "sigmoid_sums/sigmoid_sums.h"
#include "target/target_checks.h"

namespace fcn_ext {

// Numbered like MaskMap::type; -1 for any other type.
inline int mask_index(torch::headeronly::ScalarType type) {
  if (type == torch::headeronly::ScalarType::Bool) {
    return 0;
  }
  const int label = label_index(type), element = element_index(type);
  return label >= 0 ? label : element >= 0 ? kFirstSoftMask + element : -1;
}

// The largest gamma that stays finite in the accumulation type when it is multiplied by the
// constant of a logarithm. Beyond it, powers are zero or one anyway.
inline double most_gamma(torch::headeronly::ScalarType type) {
  return accumulation_index(type) == 1 ? 0x1p1022 : 0x1p126;
}

inline SigmoidSums check_sigmoid_sums(const torch::stable::Tensor& input,
                                      const torch::stable::Tensor& target,
                                      const std::vector<int64_t>& geometry, int64_t ignore_index,
                                      std::optional<double> gamma, bool regions) {
  check_map(input, "input");
  const int type = mask_index(target.scalar_type());
  FCN_EXT_CHECK(type >= 0,
                "target must be bool, uint8, int16, int32, int64, float32, float64, float16 or "
                "bfloat16, got ",
                dtype_text(target));
  FCN_EXT_CHECK(target.dim() == 4, "target must have shape (N, Q, H, W), got ", shape_text(target));
  FCN_EXT_CHECK(target.size(0) == input.size(0) && target.size(1) == input.size(1),
                "target must have the N and Q of input, (", input.size(0), ", ", input.size(1),
                "), got ", shape_text(target));
  FCN_EXT_CHECK(target.size(2) >= 1 && target.size(3) >= 1,
                "target must have at least one row and one column, got ", shape_text(target));
  FCN_EXT_CHECK(target.device() == input.device(), "target must be on the device of input");
  const BilinearAxes axes = check_forward(input, check_geometry(geometry), target.size(2),
                                          target.size(3), "the size of target");
  if (gamma.has_value()) {
    FCN_EXT_CHECK(*gamma >= 0, "gamma must be >= 0, got ", *gamma);
    FCN_EXT_CHECK(type < kFirstSoftMask, "target must be bool or integers with gamma, got ",
                  dtype_text(target));
  }
  return {{input.size(0), input.size(1), axes.y, axes.x},
          strides_of(input),
          {target.const_data_ptr(), type, strides_of(target)},
          ignore_index,
          regions,
          gamma.has_value(),
          std::min(gamma.value_or(0), most_gamma(input.scalar_type()))};
}

// Checks the weights of the sums, in the accumulation type.
inline void check_sum_gradient(const torch::stable::Tensor& grad_output,
                               const torch::stable::Tensor& input) {
  FCN_EXT_CHECK(grad_output.dim() == 3 && grad_output.size(0) == input.size(0) &&
                    grad_output.size(1) == input.size(1) && grad_output.size(2) == kSigmoidSums,
                "grad_output must have shape (N, Q, 8) = (", input.size(0), ", ", input.size(1),
                ", 8), got ", shape_text(grad_output));
  FCN_EXT_CHECK(grad_output.scalar_type() == accumulation_type(input.scalar_type()),
                "grad_output must be ", dtype_text(accumulation_type(input.scalar_type())),
                ", got ", dtype_text(grad_output));
  FCN_EXT_CHECK(grad_output.device() == input.device(),
                "grad_output must be on the device of input");
}

// Checks the weight of each sum in the loss of a mask.
inline void check_sum_weight(const torch::stable::Tensor& weight,
                             const torch::stable::Tensor& input) {
  FCN_EXT_CHECK(
      weight.dim() == 2 && weight.size(0) == input.size(1) && weight.size(1) == kSigmoidSums,
      "weight must have shape (Q, 8) = (", input.size(1), ", 8), got ", shape_text(weight));
  FCN_EXT_CHECK(weight.scalar_type() == accumulation_type(input.scalar_type()), "weight must be ",
                dtype_text(accumulation_type(input.scalar_type())), ", got ", dtype_text(weight));
  FCN_EXT_CHECK(weight.device() == input.device(), "weight must be on the device of input");
}

}  // namespace fcn_ext
