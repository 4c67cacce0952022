#include "common/cuda/tensors.h"
#include "confusion_matrix/confusion_matrix_operators.h"
#include "confusion_matrix/cuda/kernels.cuh"

namespace fcn_ext {
namespace {

using torch::stable::Tensor;

struct ConfusionMatrixCuda {
  static void count_labels(const Tensor& prediction, const Tensor& target, int64_t ignore_index,
                           Tensor& matrix, Tensor& invalid) {
    on_device_of(target, [&](cudaStream_t stream) {
      launch_count_labels(label_shape(target), label_map(prediction), label_map(target),
                          matrix.size(0), ignore_index, matrix.mutable_data_ptr<int64_t>(),
                          invalid.mutable_data_ptr<int64_t>(), stream);
    });
  }

  static void count_logits(const Tensor& logits, const Tensor& target, int64_t ignore_index,
                           Tensor& matrix, Tensor& invalid) {
    on_device_of(target, [&](cudaStream_t stream) {
      launch_count_logits(label_shape(target), logits_map(logits), label_map(target), ignore_index,
                          matrix.mutable_data_ptr<int64_t>(), invalid.mutable_data_ptr<int64_t>(),
                          stream);
    });
  }
};

}  // namespace
}  // namespace fcn_ext

STABLE_TORCH_LIBRARY_IMPL(fcn_ext, CUDA, m) {
  fcn_ext::ConfusionMatrixOperators<fcn_ext::ConfusionMatrixCuda>::implement(m);
}
