// Checks the arguments of the argmax and allocates its results, on both devices.
#pragma once

#include <tuple>

#include "confusion_matrix/confusion_matrix_checks.h"
#include "target/target_checks.h"

namespace fcn_ext {

struct ArgmaxResult {
  torch::stable::Tensor labels;       // (N, height, width)
  torch::stable::Tensor probability;  // likewise in the accumulation type, or (0,)
};

inline ArgmaxResult empty_argmax(const torch::stable::Tensor& input, const BilinearAxes& axes,
                                 torch::headeronly::ScalarType dtype, bool with_probability) {
  using torch::headeronly::ScalarType;
  constexpr int64_t kMost[] = {256, 32768, int64_t{1} << 31, int64_t{1} << 62};
  const int64_t classes = input.size(1);
  check_classes(input);
  check_most_classes(input);
  FCN_EXT_CHECK(label_index(dtype) >= 0, "dtype must be uint8, int16, int32 or int64, got ",
                dtype_text(dtype));
  FCN_EXT_CHECK(classes <= kMost[label_index(dtype)],
                "dtype must hold num_classes - 1 = ", classes - 1, ", got ", dtype_text(dtype));
  const ScalarType accumulate = accumulation_type(input.scalar_type());
  const auto pixels = [&](ScalarType type) {
    return empty_like_in(input, {input.size(0), axes.y.output_size, axes.x.output_size}, type);
  };
  return {pixels(dtype),
          with_probability ? pixels(accumulate) : empty_like_in(input, {0}, accumulate)};
}

// Checks the arguments of counts of the scores' argmax.
inline void check_argmax_counts(const torch::stable::Tensor& input,
                                const torch::stable::Tensor& target,
                                const torch::stable::Tensor& matrix,
                                const torch::stable::Tensor& invalid) {
  check_counts(target, matrix, invalid);
  FCN_EXT_CHECK(input.size(1) == matrix.size(0), "input must have num_classes = ", matrix.size(0),
                " channels, got ", shape_text(input));
}

}  // namespace fcn_ext
