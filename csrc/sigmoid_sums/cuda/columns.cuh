// The sums of a column of pixels, and the slope of each of its pixels.
#pragma once

#include "sigmoid_sums/cuda/pixel.cuh"
#include "sigmoid_sums/cuda/targets.cuh"
#include "sigmoid_sums/cuda/tiles.cuh"
#include "softmax/cuda/functions.cuh"

namespace fcn_ext {
namespace sigmoid_sums {

constexpr int kSettled = 120;  // pixels per logarithm, whose product is at most 2^kSettled

// More than the pixels of a column of a tile.
constexpr int kOne = 1 << 16;
static_assert(kMostRows < kOne);

// A column's sums.
struct ColumnSums {
  float sum[kSigmoidSums] = {};
  // One logarithm for many pixels: sum of ln(1 + e) = ln(1 + d), for the positive pixels and for
  // the negative ones.
  float gathered[2] = {};
  int counts = 0;  // of labels: kOne times the ones, plus all that are not void
  int since = 0;
  bool wrong = false;  // whether a label is invalid

  __device__ __forceinline__ void add(bool there, float s, float e) {
    const float above = s > 0 ? s : 0;
    if (there) {
      sum[kPositive] += above;
      gathered[0] = fmaf(e, gathered[0] + 1, gathered[0]);
    } else {
      sum[kNegative] += above;
      gathered[1] = fmaf(e, gathered[1] + 1, gathered[1]);
    }
  }
  // Call it after each group.
  __device__ __forceinline__ void settle_in_time() {
    since += kGroup;
    if (since > kSettled - kGroup) {
      settle();
    }
  }
  __device__ __forceinline__ void settle() {
    sum[kPositive] += log1p(gathered[0]);
    sum[kNegative] += log1p(gathered[1]);
    gathered[0] = gathered[1] = 0;
    since = 0;
  }
};

// Adds a pixel whose target is zero, one or void to its column's sums; returns the derivative with
// respect to its logit. `careful`: weights may be infinite.
template <bool careful>
__device__ __forceinline__ float take_pixel(float x, bool there, bool is_void, const float* weight,
                                            ColumnSums& column) {
  // The cross-entropy is softplus(s).
  float s = there ? -x : x;
  s = is_void ? -INFINITY : s;
  constexpr float kLog2OfE = static_cast<float>(kLog2E);
  const float e = exp2_fast(-std::abs(s) * kLog2OfE);
  const float more = softmax::reciprocal_fast(1 + e), less = e * more;
  const float wrong = s >= 0 ? more : less;
  column.add(there, s, e);
  column.counts += is_void ? 0 : there ? kOne + 1 : 1;
  if (careful && is_void) {
    return 0;
  }
  return wrong * (there ? -weight[kPositive] : weight[kNegative]);
}

// take_pixel() for a pixel whose target is a number, or NaN.
template <bool careful>
__device__ __forceinline__ float take_number(float x, float target, const float* weight,
                                             ColumnSums& column) {
  if (target == 0 || target == 1) {
    return take_pixel<careful>(x, target == 1, false, weight, column);
  }
  constexpr float kLog2OfE = static_cast<float>(kLog2E);
  const float e = exp2_fast(-std::abs(x) * kLog2OfE), tail = log1p(e);
  const float more = softmax::reciprocal_fast(1 + e), less = e * more, missing = 1 - target;
  column.sum[kPositive] += target * (x < 0 ? tail - x : tail);
  column.sum[kNegative] += missing * (x > 0 ? tail + x : tail);
  column.sum[kTarget] += target;
  column.sum[kCount] += target == target ? 1 : target;
  const float p = x >= 0 ? more : less, q = x >= 0 ? less : more;
  return weight[kNegative] * (missing * p) - weight[kPositive] * (target * q);
}

// Adds any pixel to its column's sums; returns the derivative with respect to its logit.
__device__ __forceinline__ float take_any(const SigmoidSums& problem, float x, float target,
                                          const float* weight, ColumnSums& column) {
  if (target < 0) {
    return 0;
  }
  add_pixel(problem, x, target, column.sum);
  return slope_of(problem, x, target, weight);
}

}  // namespace sigmoid_sums
}  // namespace fcn_ext
