// The operators of the confusion matrix, once for both devices.
#pragma once

#include <torch/csrc/stable/library.h>

#include "confusion_matrix/confusion_matrix_checks.h"

namespace fcn_ext {

// What a device computes: counts of pixels, added to `matrix` and `invalid`.
using ConfusionMatrixCountFunction = void(const torch::stable::Tensor& prediction,
                                          const torch::stable::Tensor& target, int64_t ignore_index,
                                          torch::stable::Tensor& matrix,
                                          torch::stable::Tensor& invalid);
struct ConfusionMatrixCpu {
  static ConfusionMatrixCountFunction count_labels;
  static ConfusionMatrixCountFunction count_logits;
};
struct ConfusionMatrixCuda {
  static ConfusionMatrixCountFunction count_labels;
  static ConfusionMatrixCountFunction count_logits;
};

template <typename Device>
struct ConfusionMatrixOperators {
  using Tensor = torch::stable::Tensor;

  static void confusion_matrix_labels(Tensor prediction, Tensor target, int64_t ignore_index,
                                      Tensor matrix, Tensor invalid) {
    check_confusion_matrix_labels(prediction, target, matrix, invalid);
    if (target.numel() > 0) {
      Device::count_labels(prediction, target, ignore_index, matrix, invalid);
    }
  }

  static void confusion_matrix_logits(Tensor logits, Tensor target, int64_t ignore_index,
                                      Tensor matrix, Tensor invalid) {
    check_confusion_matrix_logits(logits, target, matrix, invalid);
    if (target.numel() > 0) {
      Device::count_logits(logits, target, ignore_index, matrix, invalid);
    }
  }

  template <typename Library>
  static void implement(Library& m) {
    m.impl("confusion_matrix_labels",
           TORCH_BOX(&ConfusionMatrixOperators::confusion_matrix_labels));
    m.impl("confusion_matrix_logits",
           TORCH_BOX(&ConfusionMatrixOperators::confusion_matrix_logits));
  }
};

}  // namespace fcn_ext
