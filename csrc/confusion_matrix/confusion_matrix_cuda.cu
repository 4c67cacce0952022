#include <torch/csrc/stable/library.h>

#include "common/cuda.h"
#include "confusion_matrix/confusion_matrix.h"
#include "confusion_matrix/confusion_matrix_kernels.cuh"

namespace fcn_ext {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

LabelMap label_map(const Tensor& labels) {
  const ScalarType type = labels.scalar_type();
  const int index = type == ScalarType::Byte    ? 0
                    : type == ScalarType::Short ? 1
                    : type == ScalarType::Int   ? 2
                                                : 3;
  return {labels.const_data_ptr(), index, {labels.stride(0), labels.stride(1), labels.stride(2)}};
}

LogitsMap logits_map(const Tensor& logits) {
  const ScalarType type = logits.scalar_type();
  const int index = type == ScalarType::Float    ? 0
                    : type == ScalarType::Double ? 1
                    : type == ScalarType::Half   ? 2
                                                 : 3;
  return {logits.const_data_ptr(),
          index,
          logits.size(1),
          {logits.stride(0), logits.stride(1), logits.stride(2), logits.stride(3)}};
}

LabelShape label_shape(const Tensor& target) {
  return {target.size(0), target.size(1), target.size(2)};
}

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
