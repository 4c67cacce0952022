// Checks the arguments of cross_entropy and makes the problem that kernels take, on both devices.
#pragma once

#include <tuple>

#include "cross_entropy/cross_entropy.h"
#include "softmax/class_weight_checks.h"
#include "target/target_checks.h"

namespace fcn_ext {

inline CrossEntropy check_cross_entropy(const torch::stable::Tensor& input,
                                        const torch::stable::Tensor& target,
                                        const BilinearAxes& axes, const MaybeTensor& weight,
                                        int64_t ignore_index, double label_smoothing) {
  FCN_EXT_CHECK(label_smoothing >= 0 && label_smoothing <= 1,
                "label_smoothing must be in [0, 1], got ", label_smoothing);
  check_class_weight(input, weight);
  return {{input.size(0), input.size(1), axes.y, axes.x},
          strides_of(input),
          label_map(target),
          ignore_index,
          label_smoothing};
}

// An uninitialized tensor for two pixel counts: the pixels that count, and those of them whose
// label has the greatest score.
inline torch::stable::Tensor empty_hits(const torch::stable::Tensor& input) {
  check_most_classes(input);
  return empty_like_in(input, {2}, torch::headeronly::ScalarType::Long);
}

// Checks a map, whose elements must fill its memory, and the factor that multiplies it.
inline void check_scale(const torch::stable::Tensor& gradient,
                        const torch::stable::Tensor& factor) {
  FCN_EXT_CHECK(gradient.dim() == 4, "gradient must have shape (N, C, H, W), got ",
                shape_text(gradient));
  const PlaneStrides last =
      dense_strides(gradient.size(1), gradient.size(2), gradient.size(3), true);
  const PlaneStrides strides = strides_of(gradient);
  // An axis of one element may have any stride.
  const auto is = [&](int64_t axis, int64_t stride, int64_t wanted) {
    return gradient.size(axis) == 1 || stride == wanted;
  };
  FCN_EXT_CHECK(gradient.is_contiguous() ||
                    (is(0, strides.batch, last.batch) && is(1, strides.channel, last.channel) &&
                     is(2, strides.row, last.row) && is(3, strides.column, last.column)),
                "gradient must be contiguous or channels_last");
  FCN_EXT_CHECK(gradient.scalar_type() == torch::headeronly::ScalarType::Float ||
                    gradient.scalar_type() == torch::headeronly::ScalarType::Double,
                "gradient must be float32 or float64, got ", dtype_text(gradient));
  FCN_EXT_CHECK(factor.dim() == 0, "factor must have shape (), got ", shape_text(factor));
  FCN_EXT_CHECK(factor.scalar_type() == gradient.scalar_type(), "factor must be ",
                dtype_text(gradient.scalar_type()), ", got ", dtype_text(factor));
  FCN_EXT_CHECK(factor.device() == gradient.device(), "factor must be on the device of gradient");
}

// Checks the weight of every pixel's loss, in the accumulation type.
inline void check_pixel_gradient(const torch::stable::Tensor& grad_output,
                                 const torch::stable::Tensor& input,
                                 const torch::stable::Tensor& target) {
  FCN_EXT_CHECK(grad_output.dim() == 3 && grad_output.size(0) == target.size(0) &&
                    grad_output.size(1) == target.size(1) && grad_output.size(2) == target.size(2),
                "grad_output must be as large as target ", shape_text(target), ", got ",
                shape_text(grad_output));
  FCN_EXT_CHECK(grad_output.scalar_type() == accumulation_type(input), "grad_output must be ",
                dtype_text(accumulation_type(input)), ", got ", dtype_text(grad_output));
  FCN_EXT_CHECK(grad_output.device() == input.device(),
                "grad_output must be on the device of input");
}

}  // namespace fcn_ext
