// Checks of coarse scores that are compared with a full-size target.
#pragma once

#include "bilinear/bilinear_checks.h"
#include "common/label_checks.h"

namespace fcn_ext {

inline void check_classes(const torch::stable::Tensor& input) {
  FCN_EXT_CHECK(input.size(1) >= 1, "input must have at least one channel (class), got ",
                shape_text(input));
}

// For operators that look for the greatest score.
inline void check_most_classes(const torch::stable::Tensor& input) {
  FCN_EXT_CHECK(input.size(1) <= kMostClasses,
                "input must have at most 32768 channels (classes), got ", shape_text(input));
}

inline BilinearAxes check_target(const torch::stable::Tensor& input,
                                 const torch::stable::Tensor& target,
                                 const std::vector<int64_t>& geometry) {
  check_map(input, "input");
  check_label_map(target, "target");
  check_classes(input);
  FCN_EXT_CHECK(target.size(0) == input.size(0), "target must have the batch size of input, ",
                input.size(0), ", got ", shape_text(target));
  FCN_EXT_CHECK(target.size(1) >= 1 && target.size(2) >= 1,
                "target must have at least one row and one column, got ", shape_text(target));
  FCN_EXT_CHECK(target.device() == input.device(), "target must be on the device of input");
  return check_forward(input, check_geometry(geometry), target.size(1), target.size(2),
                       "the size of target");
}

}  // namespace fcn_ext
