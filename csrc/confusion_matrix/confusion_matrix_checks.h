// Checks the arguments of confusion_matrix and views its tensors, on both devices.
#pragma once

#include "common/label_checks.h"
#include "confusion_matrix/cpu/count.h"

namespace fcn_ext {

inline void check_counts(const torch::stable::Tensor& target, const torch::stable::Tensor& matrix,
                         const torch::stable::Tensor& invalid) {
  using torch::headeronly::ScalarType;
  FCN_EXT_CHECK(matrix.scalar_type() == ScalarType::Long && matrix.dim() == 2 &&
                    matrix.size(0) == matrix.size(1) && matrix.is_contiguous(),
                "out must be a contiguous int64 matrix (num_classes, num_classes), got ",
                dtype_text(matrix), " ", shape_text(matrix));
  FCN_EXT_CHECK(matrix.size(0) >= 1 && matrix.size(0) <= kMostClasses,
                "num_classes must be in [1, 32768], got ", matrix.size(0));
  FCN_EXT_CHECK(invalid.scalar_type() == ScalarType::Long && invalid.numel() == 1,
                "invalid must be an int64 tensor with one element, got ", dtype_text(invalid), " ",
                shape_text(invalid));
  FCN_EXT_CHECK(matrix.device() == target.device(), "out must be on the device of target");
  FCN_EXT_CHECK(invalid.device() == target.device(), "invalid must be on the device of target");
}

inline void check_confusion_matrix_labels(const torch::stable::Tensor& prediction,
                                          const torch::stable::Tensor& target,
                                          const torch::stable::Tensor& matrix,
                                          const torch::stable::Tensor& invalid) {
  check_label_map(prediction, "prediction");
  check_label_map(target, "target");
  FCN_EXT_CHECK(prediction.size(0) == target.size(0) && prediction.size(1) == target.size(1) &&
                    prediction.size(2) == target.size(2),
                "prediction and target must have the same shape, got ", shape_text(prediction),
                " and ", shape_text(target));
  FCN_EXT_CHECK(prediction.device() == target.device(),
                "prediction and target must be on the same device");
  check_counts(target, matrix, invalid);
}

inline void check_confusion_matrix_logits(const torch::stable::Tensor& logits,
                                          const torch::stable::Tensor& target,
                                          const torch::stable::Tensor& matrix,
                                          const torch::stable::Tensor& invalid) {
  check_map(logits, "prediction logits", false);
  check_label_map(target, "target");
  check_counts(target, matrix, invalid);
  FCN_EXT_CHECK(logits.size(1) == matrix.size(0),
                "prediction logits must have num_classes = ", matrix.size(0), " channels, got ",
                shape_text(logits));
  FCN_EXT_CHECK(logits.size(0) == target.size(0) && logits.size(2) == target.size(1) &&
                    logits.size(3) == target.size(2),
                "target must have shape (N, H, W) = (", logits.size(0), ", ", logits.size(2), ", ",
                logits.size(3), "), got ", shape_text(target));
  FCN_EXT_CHECK(logits.device() == target.device(),
                "prediction and target must be on the same device");
}

inline LogitsMap logits_map(const torch::stable::Tensor& logits) {
  return {logits.const_data_ptr(),
          element_index(logits.scalar_type()),
          logits.size(1),
          {logits.stride(0), logits.stride(1), logits.stride(2), logits.stride(3)}};
}

}  // namespace fcn_ext
