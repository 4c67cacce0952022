// What a label is to the kernels of the cross-entropy, and what its class weighs.
#pragma once

#include "common/cuda/labels.cuh"
#include "cross_entropy/cross_entropy.h"
#include "softmax/cuda/functions.cuh"

namespace fcn_ext {
namespace cross_entropy {

using namespace softmax;

// A label is a class or one of these. An invalid one cannot be reported from a device without
// stalling it: it makes the loss NaN, and the gradient of the scores around it.
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

// Whether a label is a class that counts.
template <typename label_t>
__device__ __forceinline__ bool is_class(label_t label, int64_t ignore_index, int32_t classes) {
  return label_class(label, ignore_index, classes) >= 0;
}

__device__ __forceinline__ int32_t label_at(const CrossEntropy& problem, int64_t n, int64_t y,
                                            int64_t x) {
  const int64_t offset =
      n * problem.target.stride[0] + y * problem.target.stride[1] + x * problem.target.stride[2];
  return with_labels(problem.target.data, problem.target.type, [&](const auto* labels) {
    return label_class(labels[offset], problem.ignore_index,
                       static_cast<int32_t>(problem.shape.channels));
  });
}

// loss of a pixel = hard * w_y * -log p_y + smooth * sum over c of w_c * -log p_c, with w_c = 1
// where there are no weights.
template <typename accumulate_t>
struct ClassTerms {
  const accumulate_t* weight;  // or null
  accumulate_t hard;           // 1 - label_smoothing
  accumulate_t smooth;         // label_smoothing / classes
  int32_t classes;

  __device__ __forceinline__ accumulate_t weight_of(int32_t c) const {
    return weight == nullptr ? accumulate_t(1) : weight[c];
  }
};

template <typename accumulate_t>
ClassTerms<accumulate_t> class_terms(const CrossEntropy& problem, const accumulate_t* weight) {
  const double classes = static_cast<double>(problem.shape.channels);
  return {weight, static_cast<accumulate_t>(1 - problem.label_smoothing),
          static_cast<accumulate_t>(problem.label_smoothing / classes),
          static_cast<int32_t>(problem.shape.channels)};
}

// smooth * sum of all class weights. All threads of the block come here.
template <typename accumulate_t>
__device__ __forceinline__ accumulate_t smooth_total(const ClassTerms<accumulate_t>& terms,
                                                     accumulate_t* scratch) {
  if (terms.weight == nullptr || terms.smooth == 0) {
    return terms.smooth * static_cast<accumulate_t>(terms.classes);
  }
  accumulate_t sum = 0;
  for (int32_t c = static_cast<int32_t>(threadIdx.x); c < terms.classes;
       c += static_cast<int32_t>(blockDim.x)) {
    sum += terms.weight[c];
  }
  return terms.smooth * block_sum(sum, scratch);
}

// Sums over the pixels of a block.
struct PartialLoss {
  double loss, weight;
};

}  // namespace cross_entropy
}  // namespace fcn_ext
