#include <torch/csrc/stable/ops.h>

#include "confusion_matrix/confusion_matrix_operators.h"

namespace fcn_ext {
namespace {

using torch::stable::Tensor;

void torch_parallel_for(int64_t count, int64_t grain,
                        const std::function<void(int64_t, int64_t)>& body) {
  torch::stable::parallel_for(0, count, grain, body);
}

struct ConfusionMatrixCpu {
  static void count_labels(const Tensor& prediction, const Tensor& target, int64_t ignore_index,
                           Tensor& matrix, Tensor& invalid) {
    *invalid.mutable_data_ptr<int64_t>() += fcn_ext::count_labels(
        label_shape(target), label_map(prediction), label_map(target), matrix.size(0), ignore_index,
        matrix.mutable_data_ptr<int64_t>(), torch_parallel_for);
  }

  static void count_logits(const Tensor& logits, const Tensor& target, int64_t ignore_index,
                           Tensor& matrix, Tensor& invalid) {
    *invalid.mutable_data_ptr<int64_t>() += fcn_ext::count_logits(
        label_shape(target), logits_map(logits), label_map(target), matrix.size(0), ignore_index,
        matrix.mutable_data_ptr<int64_t>(), torch_parallel_for);
  }
};

}  // namespace
}  // namespace fcn_ext

STABLE_TORCH_LIBRARY_IMPL(fcn_ext, CPU, m) {
  fcn_ext::ConfusionMatrixOperators<fcn_ext::ConfusionMatrixCpu>::implement(m);
}
