// Class weights, and gradients of scores, as losses take and return them.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <optional>

#include "bilinear/bilinear_checks.h"

namespace fcn_ext {

using MaybeTensor = std::optional<torch::stable::Tensor>;

// The dtype in which losses and gradients are summed.
inline torch::headeronly::ScalarType accumulation_type(const torch::stable::Tensor& input) {
  return accumulation_type(input.scalar_type());
}

inline void check_class_weight(const torch::stable::Tensor& input, const MaybeTensor& weight) {
  if (weight.has_value()) {
    FCN_EXT_CHECK(weight->dim() == 1 && weight->size(0) == input.size(1),
                  "weight must have shape (num_classes,) = (", input.size(1), ",), got ",
                  shape_text(*weight));
    FCN_EXT_CHECK(weight->scalar_type() == accumulation_type(input), "weight must be ",
                  dtype_text(accumulation_type(input)), ", got ", dtype_text(*weight));
    FCN_EXT_CHECK(weight->device() == input.device(), "weight must be on the device of input");
  }
}

inline MaybeTensor contiguous_weight(const MaybeTensor& weight) {
  return weight.has_value() ? MaybeTensor(torch::stable::contiguous(*weight)) : weight;
}

// An uninitialized gradient of a map: in the accumulation type, dense, in the layout of the map.
inline torch::stable::Tensor empty_gradient(const torch::stable::Tensor& input) {
  return empty_like_in(input, {input.size(0), input.size(1), input.size(2), input.size(3)},
                       accumulation_type(input), is_channels_last(input));
}

}  // namespace fcn_ext
