// The geometry of scores that are compared with a target of full size.
#pragma once

#include "common/label_checks.h"
#include "interpolate/interpolate.h"
#include "upsample/upsample.h"

namespace fcn_ext {

// What both geometries ask of the target before they look at its size.
inline void check_target(const torch::stable::Tensor& input, const torch::stable::Tensor& target) {
  check_map(input, "input");
  check_label_map(target, "target");
  FCN_EXT_CHECK(input.size(1) >= 1, "input must have at least one channel (class), got ",
                shape_text(input));
  FCN_EXT_CHECK(target.size(0) == input.size(0), "target must have the batch size of input, ",
                input.size(0), ", got ", shape_text(target));
  FCN_EXT_CHECK(target.size(1) >= 1 && target.size(2) >= 1,
                "target must have at least one row and one column, got ", shape_text(target));
  FCN_EXT_CHECK(target.device() == input.device(), "target must be on the device of input");
}

inline BilinearAxes check_upsample_target(const torch::stable::Tensor& input,
                                          const torch::stable::Tensor& target, int64_t stride,
                                          int64_t kernel_size, int64_t offset_y, int64_t offset_x) {
  check_target(input, target);
  return check_upsample(input, stride, kernel_size, offset_y, offset_x, target.size(1),
                        target.size(2));
}

inline BilinearAxes check_interpolate_target(const torch::stable::Tensor& input,
                                             const torch::stable::Tensor& target,
                                             bool align_corners) {
  check_target(input, target);
  return check_interpolate(input, target.size(1), target.size(2), align_corners);
}

}  // namespace fcn_ext
