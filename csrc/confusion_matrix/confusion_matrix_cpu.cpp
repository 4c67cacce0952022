#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include "confusion_matrix/confusion_matrix.h"
#include "confusion_matrix/count.h"

namespace fcn_ext {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

LabelMap label_map(const Tensor& labels) {
  int type = 3;
  switch (labels.scalar_type()) {
    case ScalarType::Byte:
      type = 0;
      break;
    case ScalarType::Short:
      type = 1;
      break;
    case ScalarType::Int:
      type = 2;
      break;
    default:
      break;
  }
  return {labels.const_data_ptr(), type, {labels.stride(0), labels.stride(1), labels.stride(2)}};
}

LogitsMap logits_map(const Tensor& logits) {
  int type = 3;
  switch (logits.scalar_type()) {
    case ScalarType::Float:
      type = 0;
      break;
    case ScalarType::Double:
      type = 1;
      break;
    case ScalarType::Half:
      type = 2;
      break;
    default:
      break;
  }
  return {logits.const_data_ptr(),
          type,
          logits.size(1),
          {logits.stride(0), logits.stride(1), logits.stride(2), logits.stride(3)}};
}

LabelShape label_shape(const Tensor& target) {
  return {target.size(0), target.size(1), target.size(2)};
}

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
