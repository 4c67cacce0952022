// Checks of label tensors, and their view as plain memory.
#pragma once

#include "common/check.h"
#include "common/labels.h"

namespace fcn_ext {

// For operators that predict or compare labels: confusion matrix bins are counted in 32 bits.
constexpr int64_t kMostClasses = 32768;

inline void check_label_map(const torch::stable::Tensor& labels, const char* name) {
  FCN_EXT_CHECK(label_index(labels.scalar_type()) >= 0, name,
                " labels must be uint8, int16, int32 or int64, got ", dtype_text(labels));
  FCN_EXT_CHECK(labels.dim() == 3, name, " labels must have shape (N, H, W), got ",
                shape_text(labels));
}

inline LabelMap label_map(const torch::stable::Tensor& labels) {
  return {labels.const_data_ptr(),
          label_index(labels.scalar_type()),
          {labels.stride(0), labels.stride(1), labels.stride(2)}};
}

inline LabelShape label_shape(const torch::stable::Tensor& labels) {
  return {labels.size(0), labels.size(1), labels.size(2)};
}

// index: (n * height + y) * width + x, for pixel (n, y, x) of target.
[[noreturn]] inline void throw_invalid_label(const torch::stable::Tensor& target, int64_t index,
                                             int64_t classes, int64_t ignore_index) {
  const int64_t height = target.size(1), width = target.size(2);
  const int64_t n = index / (height * width), y = index / width % height, x = index % width;
  const int64_t value = label_at(label_map(target), n, y, x);
  throw Refusal(join("target must be in [0, ", classes, ") or ignore_index = ", ignore_index,
                     ", got ", value, " at batch index ", n, ", row ", y, ", column ", x));
}

}  // namespace fcn_ext
