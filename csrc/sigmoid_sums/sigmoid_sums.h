// What sigmoid losses sum over the pixels of each mask, straight from coarse scores: the full-size
// logits are never stored. This is the input of the CPU and CUDA kernels.
//
// With the logit x of a pixel, its target t, p = 1 / (1 + exp(-x)) and softplus(x) = ln(1 +
// exp(x)), summed over the pixels of a mask that are not void:
//
//     kPositive        t * softplus(-x)            the cross-entropy of what is there
//     kNegative        (1 - t) * softplus(x)       ... and of what is not
//     kTarget          t
//     kCount           1
//     kProbability     p                           on request: `regions`
//     kOverlap         p * t
//     kFocalPositive   t * (1 - p)^gamma * softplus(-x)          on request: `focal`
//     kFocalNegative   (1 - t) * p^gamma * softplus(x)
#pragma once

#include "bilinear/bilinear.h"

namespace fcn_ext {

enum SigmoidSum {
  kPositive,
  kNegative,
  kTarget,
  kCount,
  kProbability,
  kOverlap,
  kFocalPositive,
  kFocalNegative,
  kSigmoidSums,
};

// One (N, Q, H, W) map of targets; strides in elements. type: 0 uint8 or bool, 1 int16, 2 int32,
// 3 int64, 4 float, 5 double, 6 half, 7 bfloat16.
struct MaskMap {
  const void* data;
  int type;
  PlaneStrides strides;
};

constexpr int kFirstSoftMask = 4;

struct SigmoidSums {
  BilinearShape shape;  // channels = masks; the output is as large as the target
  PlaneStrides input_strides;
  MaskMap target;
  int64_t ignore_index;  // of integer targets; compared as 64-bit integers
  bool regions, focal;
  double gamma;
};

// Whether a sum is wanted.
FCN_EXT_HOST_DEVICE constexpr bool is_summed(int kind, bool regions, bool focal) {
  return kind < kProbability || (kind < kFocalPositive ? regions : focal);
}

// The loss of a mask: its sums, each times its weight. Leaves out sums with weight zero, which may
// be infinite, and the weights of sums that are not taken, which may be, too.
template <typename accumulate_t>
FCN_EXT_HOST_DEVICE inline accumulate_t weighed(const accumulate_t* sums,
                                                const accumulate_t* weight, bool focal) {
  accumulate_t loss = 0;
  for (int kind = 0; kind < kSigmoidSums; ++kind) {
    if (is_summed(kind, false, focal) && weight[kind] != 0) {
      loss += weight[kind] * sums[kind];
    }
  }
  return loss;
}

// Stands for a void target among numbers in [0, 1].
constexpr int kVoidMask = -1;

}  // namespace fcn_ext
