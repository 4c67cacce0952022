// How kernels classify a label of the target.
#pragma once

#include "common/cuda/labels.cuh"

namespace fcn_ext {

// A label is a class or one of these. A device cannot report an invalid label without stalling, so
// an invalid label makes the loss NaN, and the gradient of the scores around it.
constexpr int32_t kIgnored = -1;
constexpr int32_t kInvalid = -2;

template <typename label_t>
__device__ __forceinline__ int32_t label_class(label_t label, int64_t ignore_index,
                                               int32_t classes) {
  if constexpr (sizeof(label_t) < sizeof(int64_t)) {
    const auto ignored = static_cast<int32_t>(ignore_index);
    if (label == ignored && ignored == ignore_index) {
      return kIgnored;
    }
    return static_cast<uint32_t>(label) < static_cast<uint32_t>(classes)
               ? static_cast<int32_t>(label)
               : kInvalid;
  } else {
    if (label == ignore_index) {
      return kIgnored;
    }
    return static_cast<uint64_t>(label) < static_cast<uint64_t>(classes)
               ? static_cast<int32_t>(label)
               : kInvalid;
  }
}

// Whether a label is a class, neither ignored nor invalid.
template <typename label_t>
__device__ __forceinline__ bool is_class(label_t label, int64_t ignore_index, int32_t classes) {
  return label_class(label, ignore_index, classes) >= 0;
}

__device__ __forceinline__ int32_t class_at(const LabelMap& target, int64_t ignore_index,
                                            int32_t classes, int64_t n, int64_t y, int64_t x) {
  const int64_t offset = n * target.stride[0] + y * target.stride[1] + x * target.stride[2];
  return with_labels(target.data, target.type, [&](const auto* labels) {
    return label_class(labels[offset], ignore_index, classes);
  });
}

}  // namespace fcn_ext
