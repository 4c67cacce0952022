// Entry points of confusion_matrix_cases.py.
#include "confusion_matrix/cuda/kernels.cuh"

using fcn_ext::LabelMap;
using fcn_ext::LogitsMap;

extern "C" int confusion_matrix_labels(const void* prediction, int64_t prediction_type, int64_t p0,
                                       int64_t p1, int64_t p2, const void* target,
                                       int64_t target_type, int64_t t0, int64_t t1, int64_t t2,
                                       int64_t batch, int64_t height, int64_t width,
                                       int64_t num_classes, int64_t ignore_index, int64_t* matrix,
                                       int64_t* invalid) {
  return cuda_emulation::guarded([=] {
    const LabelMap predictions{prediction, static_cast<int>(prediction_type), {p0, p1, p2}};
    const LabelMap targets{target, static_cast<int>(target_type), {t0, t1, t2}};
    fcn_ext::launch_count_labels({batch, height, width}, predictions, targets, num_classes,
                                 ignore_index, matrix, invalid, nullptr);
  });
}

extern "C" int confusion_matrix_logits(const void* logits, int64_t logits_type, int64_t channels,
                                       int64_t l0, int64_t l1, int64_t l2, int64_t l3,
                                       const void* target, int64_t target_type, int64_t t0,
                                       int64_t t1, int64_t t2, int64_t batch, int64_t height,
                                       int64_t width, int64_t ignore_index, int64_t* matrix,
                                       int64_t* invalid) {
  return cuda_emulation::guarded([=] {
    const LogitsMap scores{logits, static_cast<int>(logits_type), channels, {l0, l1, l2, l3}};
    const LabelMap targets{target, static_cast<int>(target_type), {t0, t1, t2}};
    fcn_ext::launch_count_logits({batch, height, width}, scores, targets, ignore_index, matrix,
                                 invalid, nullptr);
  });
}
