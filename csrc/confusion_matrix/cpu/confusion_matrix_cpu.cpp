#include "common/cpu/torch_parallel_for.h"
#include "confusion_matrix/confusion_matrix_operators.h"

namespace fcn_ext {

using torch::stable::Tensor;

void ConfusionMatrixCpu::count_labels(const Tensor& prediction, const Tensor& target,
                                      int64_t ignore_index, Tensor& matrix, Tensor& invalid) {
  *invalid.mutable_data_ptr<int64_t>() += fcn_ext::count_labels(
      label_shape(target), label_map(prediction), label_map(target), matrix.size(0), ignore_index,
      matrix.mutable_data_ptr<int64_t>(), torch_parallel_for);
}

void ConfusionMatrixCpu::count_logits(const Tensor& logits, const Tensor& target,
                                      int64_t ignore_index, Tensor& matrix, Tensor& invalid) {
  *invalid.mutable_data_ptr<int64_t>() += fcn_ext::count_logits(
      label_shape(target), logits_map(logits), label_map(target), matrix.size(0), ignore_index,
      matrix.mutable_data_ptr<int64_t>(), torch_parallel_for);
}

}  // namespace fcn_ext
