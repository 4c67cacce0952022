// The functions of a pixel's logit, a register of pixels at a time. For *kernels.cpp files only
// (common/cpu/capability.h says why the anonymous namespace).
#pragma once

#include "common/cpu/lanes_math.h"
#include "common/logarithms.h"
#include "sigmoid_sums/sigmoid_sums.h"

namespace fcn_ext {
namespace {

// Chebyshev interpolation of ln(1 + e) / e over e in [0, 1], as a series in e - 1/2: within 6e-9
// and 2e-17 of it.
constexpr double kLog1pTerms[] = {
    0.8109302199132427,   -0.28852710137197934,  0.13260901577718714,  -0.06768818965399573,
    0.03663523416633938,  -0.020563182432163537, 0.011577685182382747, -0.006788016951938559,
    0.005250270678070283, -0.00317605701843196};
constexpr double kLog1pTermsDouble[] = {
    0.8109302162163288,    -0.2885270990993239,     0.13260975375420375,    -0.06768864331096429,
    0.036611854523044426,  -0.020548811919120714,   0.011833792115498273,   -0.006945394974985513,
    0.004136178969492579,  -0.0024918411947988627,  0.0015153851053375097,  -0.0009288574279277324,
    0.0005730446084677868, -0.00035482048783102383, 0.00022119170895766566, -0.0001421000228999903,
    8.933303406819272e-05, -4.4828443252232565e-05, 2.8278083585626545e-05, -3.8362374451601246e-05,
    2.4437973948580947e-05};

// ln(1 + e), 0 <= e <= 1, to the last places of small results too.
template <typename accumulate_t>
inline Register<accumulate_t> log1p_lanes(const Register<accumulate_t>& e) {
  using lanes_t = Register<accumulate_t>;
  constexpr bool kDouble = sizeof(accumulate_t) == 8;
  constexpr int kDegree = kDouble ? 20 : 9;
  const double* terms = kDouble ? kLog1pTermsDouble : kLog1pTerms;
  const lanes_t u = e - static_cast<accumulate_t>(0.5);
  lanes_t series = all_lanes(static_cast<accumulate_t>(terms[kDegree]));
  for (int n = kDegree - 1; n >= 0; --n) {
    series = series * u + static_cast<accumulate_t>(terms[n]);
  }
  return series * e;
}

// Which of the sums are wanted beside the cross-entropy, and whether targets are between zero and
// one, too.
template <bool with_regions, bool with_focal, bool with_soft>
struct Parts {
  static constexpr bool regions = with_regions, focal = with_focal, soft = with_soft;
};

// What a logit means: e = exp(-|x|), p = sigmoid(x), q = 1 - p.
template <typename accumulate_t>
struct AnyLogit {
  using lanes_t = Register<accumulate_t>;
  lanes_t x, e;

  explicit AnyLogit(const lanes_t& logit) : x(logit) {
    const lanes_t away = x < 0 ? x : -x;
    e = exp2_lanes<accumulate_t>(away * static_cast<accumulate_t>(kLog2E));
  }
  lanes_t vanishing() const { return e; }
  // NaN where the logit is.
  void sigmoid(lanes_t& p, lanes_t& q) const {
    const lanes_t more = reciprocal(e + 1), less = e * more;
    p = x >= 0 ? more : less;
    q = x >= 0 ? less : more;
    p = x == x ? p : x;
    q = x == x ? q : x;
  }
};

// Two logits no farther than this from zero have a ratio of powers that exp2_lanes can take.
constexpr double kLargestLogit = 34;

// The logits of a column from row to row of a cell: exp(x) is a geometric progression there.
template <typename accumulate_t>
struct LogitProgression {
  using lanes_t = Register<accumulate_t>;
  lanes_t first, step;  // logits
  lanes_t x, power, inverse, ratio, inverse_ratio;

  LogitProgression(const lanes_t& first_logit, const lanes_t& logit_step)
      : first(first_logit), step(logit_step), x(first_logit) {
    power = exp2_lanes<accumulate_t>(first * static_cast<accumulate_t>(kLog2E));
    ratio = exp2_lanes<accumulate_t>(step * static_cast<accumulate_t>(kLog2E));
    inverse = reciprocal(power);
    inverse_ratio = reciprocal(ratio);
  }
  // The next row, the `row`th from the first.
  void advance(int64_t row) {
    x = first + step * static_cast<accumulate_t>(row);
    power *= ratio;
    inverse *= inverse_ratio;
  }
  lanes_t vanishing() const { return smaller(power, inverse); }
  void sigmoid(lanes_t& p, lanes_t& q) const {
    q = reciprocal(power + 1);
    p = power * q;
  }
};

// (sigmoid of the wrong sign)^gamma of pixels whose targets are zero or one: its logarithm is minus
// `right`, the softplus that their cross-entropy is not.
template <typename accumulate_t>
inline Register<accumulate_t> focus(const Register<accumulate_t>& right, accumulate_t gamma) {
  return exp2_lanes<accumulate_t>(right * (-gamma * static_cast<accumulate_t>(kLog2E)));
}

// The sums of pixels, lane by lane.
template <typename accumulate_t, typename parts>
struct PixelSums {
  using lanes_t = Register<accumulate_t>;
  accumulate_t gamma;
  lanes_t sum[kSigmoidSums] = {};

  template <typename logit_t>
  inline void add(const logit_t& logit, const lanes_t& target) {
    const lanes_t zero = {}, x = logit.x;
    const lanes_t tail = log1p_lanes<accumulate_t>(logit.vanishing());
    const auto there = target > 0;
    if constexpr (parts::soft) {
      // Below zero are the lanes past a row's end.
      const lanes_t rest = target >= 0 ? 1 - target : zero;
      sum[kPositive] += there ? target * (larger(zero, -x) + tail) : zero;
      sum[kNegative] += rest > 0 ? rest * (larger(zero, x) + tail) : zero;
      sum[kTarget] += there ? target : zero;
      sum[kCount] += target >= 0 ? all_lanes<accumulate_t>(1) : zero;
    } else {
      const auto missing = target == 0;
      const lanes_t toward = there ? -x : x;
      const lanes_t loss = larger(zero, toward) + tail;
      sum[kPositive] += there ? loss : zero;
      sum[kNegative] += missing ? loss : zero;
      sum[kTarget] += there ? all_lanes<accumulate_t>(1) : zero;
      sum[kCount] += target >= 0 ? all_lanes<accumulate_t>(1) : zero;
      if constexpr (parts::focal) {
        const lanes_t focused = loss * focus<accumulate_t>(larger(zero, -toward) + tail, gamma);
        sum[kFocalPositive] += there ? focused : zero;
        sum[kFocalNegative] += missing ? focused : zero;
      }
    }
    if constexpr (parts::regions) {
      lanes_t p, q;
      logit.sigmoid(p, q);
      sum[kProbability] += target >= 0 ? p : zero;
      sum[kOverlap] += there ? target * p : zero;
    }
  }

  void flush(double* to) {
#pragma GCC unroll 8
    for (int kind = 0; kind < kSigmoidSums; ++kind) {
      to[kind] += sum_of<accumulate_t>(sum[kind]);
      sum[kind] = lanes_t{};
    }
  }
};

// The derivative by the logit of the sums, each times its weight; zero where the target is void.
template <typename accumulate_t, typename parts>
struct PixelSlope {
  using lanes_t = Register<accumulate_t>;
  accumulate_t weight[kSigmoidSums], gamma;

  template <typename logit_t>
  inline lanes_t operator()(const logit_t& logit, const lanes_t& target) const {
    lanes_t p, q, slope;
    logit.sigmoid(p, q);
    const auto there = target > 0;
    if constexpr (parts::soft) {
      slope = weight[kNegative] * ((1 - target) * p) - weight[kPositive] * (target * q);
    } else {
      slope = there ? q * -weight[kPositive] : p * weight[kNegative];
    }
    if constexpr (parts::regions) {
      slope += (weight[kProbability] + weight[kOverlap] * target) * (p * q);
    }
    if constexpr (parts::focal) {
      const lanes_t x = logit.x, zero = {};
      const lanes_t tail = log1p_lanes<accumulate_t>(logit.vanishing());
      const lanes_t toward = there ? -x : x;
      const lanes_t wrong = there ? q : p, right = there ? p : q;
      const lanes_t focused = focus<accumulate_t>(larger(zero, -toward) + tail, gamma);
      const lanes_t steep = focused * (gamma * (right * (larger(zero, toward) + tail)) + wrong);
      slope += there ? steep * -weight[kFocalPositive] : steep * weight[kFocalNegative];
    }
    return target >= 0 ? slope : lanes_t{};
  }
};

}  // namespace
}  // namespace fcn_ext
