#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "confusion_matrix/confusion_matrix.h"
namespace fcn_ext {
namespace {

using torch::stable::Tensor;

void torch_parallel_for(int64_t count, int64_t grain,
                        const std::function<void(int64_t, int64_t)>& body) {
  torch::stable::parallel_for(0, count, grain, body);
}

void confusion_matrix_labels_cpu(Tensor prediction, Tensor target, int64_t ignore_index,
                                 Tensor matrix, Tensor invalid) {
  check_confusion_matrix_labels(prediction, target, matrix, invalid);
  if (target.numel() > 0) {
    *invalid.mutable_data_ptr<int64_t>() +=
        count_labels(label_shape(target), label_map(prediction), label_map(target), matrix.size(0),
                     ignore_index, matrix.mutable_data_ptr<int64_t>(), torch_parallel_for);
  }
}

void confusion_matrix_logits_cpu(Tensor logits, Tensor target, int64_t ignore_index, Tensor matrix,
                                 Tensor invalid) {
  check_confusion_matrix_logits(logits, target, matrix, invalid);
  if (target.numel() > 0) {
    *invalid.mutable_data_ptr<int64_t>() +=
        count_logits(label_shape(target), logits_map(logits), label_map(target), matrix.size(0),
                     ignore_index, matrix.mutable_data_ptr<int64_t>(), torch_parallel_for);
  }
}

}  // namespace
}  // namespace fcn_ext

STABLE_TORCH_LIBRARY_IMPL(fcn_ext, CPU, m) {
  m.impl("confusion_matrix_labels", TORCH_BOX(&fcn_ext::confusion_matrix_labels_cpu));
  m.impl("confusion_matrix_logits", TORCH_BOX(&fcn_ext::confusion_matrix_logits_cpu));
}
