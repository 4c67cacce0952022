// One pixel of a mask: its logit, and functions of that and its target.
#pragma once

#include "bilinear/cuda/taps.cuh"
#include "common/cuda/device.cuh"
#include "common/logarithms.h"
#include "sigmoid_sums/sigmoid_sums.h"

namespace fcn_ext {
namespace sigmoid_sums {

// The first score and the offset of the first target of a mask.
template <typename scalar_t>
struct MaskView {
  const scalar_t* scores;
  int64_t target;

  __device__ __forceinline__ MaskView(const SigmoidSums& problem, const scalar_t* input,
                                      int64_t mask) {
    const int64_t masks = problem.shape.channels, n = mask / masks, q = mask % masks;
    scores = input + n * problem.input_strides.batch + q * problem.input_strides.channel;
    target = n * problem.target.strides.batch + q * problem.target.strides.channel;
  }
};

// A pixel's logit. Nodes of weight zero are not read.
template <typename scalar_t, typename accumulate_t>
__device__ __forceinline__ accumulate_t logit_at(const SigmoidSums& problem, const scalar_t* scores,
                                                 const WeightedTap<accumulate_t>& y,
                                                 const WeightedTap<accumulate_t>& x) {
  const PlaneStrides& strides = problem.input_strides;
  const auto of_row = [&](const scalar_t* row) {
    accumulate_t value = 0;
    if (x.lower != 0) {
      value += x.lower * static_cast<accumulate_t>(row[x.node * strides.column]);
    }
    if (x.upper != 0) {
      value += x.upper * static_cast<accumulate_t>(row[(x.node + 1) * strides.column]);
    }
    return value;
  };
  accumulate_t value = 0;
  if (y.lower != 0) {
    value += y.lower * of_row(scores + y.node * strides.row);
  }
  if (y.upper != 0) {
    value += y.upper * of_row(scores + (y.node + 1) * strides.row);
  }
  return value;
}

// Functions of a logit x; NaN where x is.
template <typename accumulate_t>
struct Pixel {
  accumulate_t p, q, rises, falls;  // sigmoid(x), sigmoid(-x), softplus(x), softplus(-x)

  __device__ __forceinline__ explicit Pixel(accumulate_t x) {
    const accumulate_t e = exp(x < 0 ? x : -x), tail = log1p(e);
    const accumulate_t more = 1 / (1 + e), less = e / (1 + e);
    p = x >= 0 ? more : less;
    q = x >= 0 ? less : more;
    rises = tail + (x < 0 ? accumulate_t(0) : x);
    falls = tail + (x > 0 ? accumulate_t(0) : -x);
  }
};

// (sigmoid of the wrong sign)^gamma; that sigmoid is exp(-right), and `right` may be infinite.
template <typename accumulate_t>
__device__ __forceinline__ accumulate_t focus(accumulate_t right, accumulate_t gamma) {
  return gamma == 0 ? accumulate_t(1) : exp(-gamma * right);
}

// Adds a pixel that is not void to the sums.
template <typename accumulate_t>
__device__ __forceinline__ void add_pixel(const SigmoidSums& problem, accumulate_t x,
                                          accumulate_t target, accumulate_t* sum) {
  const Pixel<accumulate_t> pixel(x);
  const accumulate_t missing = 1 - target;
  const accumulate_t positive = target == 0 ? accumulate_t(0) : target * pixel.falls;
  const accumulate_t negative = missing == 0 ? accumulate_t(0) : missing * pixel.rises;
  sum[kPositive] += positive;
  sum[kNegative] += negative;
  sum[kTarget] += target;
  sum[kCount] += target == target ? accumulate_t(1) : target;
  if (problem.regions) {
    sum[kProbability] += target == target ? pixel.p : target;
    sum[kOverlap] += target == 0 ? accumulate_t(0) : target * pixel.p;
  }
  if (problem.focal) {
    const accumulate_t gamma = static_cast<accumulate_t>(problem.gamma);
    const accumulate_t focused = focus(target > 0 ? pixel.rises : pixel.falls, gamma);
    sum[kFocalPositive] += target == 0 ? accumulate_t(0) : focused * positive;
    sum[kFocalNegative] += missing == 0 ? accumulate_t(0) : focused * negative;
  }
}

// The derivative of the weighted sums with respect to the logit of a pixel that is not void. A sum
// to which the pixel adds nothing may have any weight, even an infinite one.
template <typename accumulate_t>
__device__ __forceinline__ accumulate_t slope_of(const SigmoidSums& problem, accumulate_t x,
                                                 accumulate_t target, const accumulate_t* weight) {
  const Pixel<accumulate_t> pixel(x);
  const bool is_one = target == 1, is_zero = target == 0;
  accumulate_t slope = is_one ? 0 : weight[kNegative] * ((1 - target) * pixel.p);
  slope -= is_zero ? 0 : weight[kPositive] * (target * pixel.q);
  if (problem.regions) {
    const accumulate_t overlap = is_zero ? 0 : weight[kOverlap] * target;
    slope += (weight[kProbability] + overlap) * (pixel.p * pixel.q);
  }
  if (problem.focal) {
    const bool there = target > 0;
    const accumulate_t gamma = static_cast<accumulate_t>(problem.gamma);
    const accumulate_t right = there ? pixel.p : pixel.q, wrong = there ? pixel.q : pixel.p;
    const accumulate_t focused = focus(there ? pixel.rises : pixel.falls, gamma);
    const accumulate_t steep =
        focused * (gamma * (right * (there ? pixel.falls : pixel.rises)) + wrong);
    slope += there ? -weight[kFocalPositive] * steep : weight[kFocalNegative] * steep;
  }
  return slope;
}

}  // namespace sigmoid_sums
}  // namespace fcn_ext
