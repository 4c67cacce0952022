#include <torch/csrc/stable/library.h>

#include "common/cuda.h"
#include "confusion_matrix/confusion_matrix.h"
#include "confusion_matrix/confusion_matrix_kernels.cuh"

namespace fcn_ext {
namespace {

using torch::stable::Tensor;

void confusion_matrix_labels_cuda(Tensor prediction, Tensor target, int64_t ignore_index,
                                  Tensor matrix, Tensor invalid) {
  check_confusion_matrix_labels(prediction, target, matrix, invalid);
  if (target.numel() == 0) {
    return;
  }
  on_device_of(target, [&](cudaStream_t stream) {
    launch_count_labels(label_shape(target), label_map(prediction), label_map(target),
                        matrix.size(0), ignore_index, matrix.mutable_data_ptr<int64_t>(),
                        invalid.mutable_data_ptr<int64_t>(), stream);
  });
}

void confusion_matrix_logits_cuda(Tensor logits, Tensor target, int64_t ignore_index, Tensor matrix,
                                  Tensor invalid) {
  check_confusion_matrix_logits(logits, target, matrix, invalid);
  if (target.numel() == 0) {
    return;
  }
  on_device_of(target, [&](cudaStream_t stream) {
    launch_count_logits(label_shape(target), logits_map(logits), label_map(target), ignore_index,
                        matrix.mutable_data_ptr<int64_t>(), invalid.mutable_data_ptr<int64_t>(),
                        stream);
  });
}

}  // namespace
}  // namespace fcn_ext

STABLE_TORCH_LIBRARY_IMPL(fcn_ext, CUDA, m) {
  m.impl("confusion_matrix_labels", TORCH_BOX(&fcn_ext::confusion_matrix_labels_cuda));
  m.impl("confusion_matrix_logits", TORCH_BOX(&fcn_ext::confusion_matrix_logits_cuda));
}
