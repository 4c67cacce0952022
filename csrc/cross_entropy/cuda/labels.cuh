// How the kernels of the cross-entropy read a label, and what its class weighs.
#pragma once

#include "cross_entropy/cross_entropy.h"
#include "softmax/cuda/functions.cuh"
#include "target/cuda/label_class.cuh"

namespace fcn_ext {
namespace cross_entropy {

using namespace softmax;

__device__ __forceinline__ int32_t label_at(const CrossEntropy& problem, int64_t n, int64_t y,
                                            int64_t x) {
  return class_at(problem.target, problem.ignore_index,
                  static_cast<int32_t>(problem.shape.channels), n, y, x);
}

// loss of a pixel = hard * w_y * -log p_y + smooth * sum over c of w_c * -log p_c, with w_c = 1 if
// there are no weights.
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

// smooth * sum of all class weights. All threads of the block must call this.
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
