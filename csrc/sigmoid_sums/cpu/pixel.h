// What a pixel adds to sums and gradients, a register of pixels at a time. For *kernels.cpp files
// only (common/cpu/capability.h says why the anonymous namespace).
#pragma once

#include "sigmoid_sums/cpu/logit.h"
#include "sigmoid_sums/cpu/shares.h"
#include "sigmoid_sums/sigmoid_sums.h"

namespace fcn_ext {
namespace {

// Chebyshev interpolation of ln(1 + e) / e over e in [0, 1], as a series in e - 1/2, with errors
// below 6e-9 and 2e-17.
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

// ln(1 + e) for 0 <= e <= 1; small results are accurate to the last places, too.
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

// Which sums are wanted besides the cross-entropy, and whether targets may be between zero and one.
template <bool with_regions, bool with_focal, bool with_soft>
struct Parts {
  static constexpr bool regions = with_regions, focal = with_focal, soft = with_soft;
};

// (sigmoid of the wrong sign)^gamma of pixels whose targets are zero or one. The logarithm of that
// sigmoid is -right, where `right` is the softplus that is not the pixel's cross-entropy.
template <typename accumulate_t>
inline Register<accumulate_t> focus(const Register<accumulate_t>& right, accumulate_t gamma) {
  if (gamma == 0) {  // even if `right` is infinite
    return all_lanes<accumulate_t>(1);
  }
  return exp2_lanes<accumulate_t>(right * (-gamma * static_cast<accumulate_t>(kLog2E)));
}

// The targets of a register of pixels: numbers, or zeros and ones; kVoidMask where a pixel is void.
// `one` is the type that a single target is stored as.
template <typename accumulate_t, bool soft>
struct TargetsOf {
  using type = Integers<accumulate_t>;
  using one = int8_t;
};
template <typename accumulate_t>
struct TargetsOf<accumulate_t, true> {
  using type = Register<accumulate_t>;
  using one = accumulate_t;
};
template <typename accumulate_t, typename parts>
using Targets = typename TargetsOf<accumulate_t, parts::soft>::type;

// The sums of pixels, lane by lane, without kTarget and kCount of targets that are zero or one.
// With such targets, many pixels take one logarithm, of a product: of the shares that pixels leave
// or, where a pixel may leave none, sum of ln(1 + e) = ln(1 + d), with d gathered apart from the
// one, so that it keeps its digits.
template <typename accumulate_t, typename parts>
struct PixelSums {
  using lanes_t = Register<accumulate_t>;
  accumulate_t gamma;
  lanes_t sum[kSigmoidSums] = {};
  Shares<accumulate_t> shares[2];  // of the positive and of the negative pixels
  lanes_t gathered[2] = {};        // d of these
  bool has_gathered = false;

  static constexpr bool kGathers = !parts::soft && !parts::focal;

  explicit PixelSums(accumulate_t given) : gamma(given) {}

  template <typename logit_t>
  inline void add(const logit_t& logit, const Targets<accumulate_t, parts>& target) {
    const lanes_t zero = {};
    const auto there = target > 0;
    if constexpr (kGathers && logit_t::kFinite) {
      const auto missing = target == 0;
      shares[0].take(there, logit.q, logit.p);
      shares[1].take(missing, logit.p, logit.q);
      if (!logit_t::kNear) {
        lift();
      }
      add_regions(there, missing, logit.p);
      return;
    }
    const lanes_t x = logit.x, e = logit.vanishing();
    // The positive parts of x and of -x; NaN where x is.
    const lanes_t above = larger(zero, x), below = logit_t::kFinite ? above - x : larger(zero, -x);
    if constexpr (parts::soft) {
      // Lanes past a row's end have targets below zero.
      const lanes_t tail = log1p_lanes<accumulate_t>(e);
      const lanes_t rest = target >= 0 ? 1 - target : zero;
      sum[kPositive] += there ? target * (below + tail) : zero;
      sum[kNegative] += rest > 0 ? rest * (above + tail) : zero;
      sum[kTarget] += there ? target : zero;
      sum[kCount] += target >= 0 ? all_lanes<accumulate_t>(1) : zero;
      if constexpr (parts::regions) {
        sum[kProbability] += target >= 0 ? logit.p : zero;
        sum[kOverlap] += there ? target * logit.p : zero;
      }
    } else {
      const auto missing = target == 0;
      if constexpr (kGathers) {
        add_where(there, below, sum[kPositive]);
        add_where(missing, above, sum[kNegative]);
        add_where(there, e * (gathered[0] + 1), gathered[0]);
        add_where(missing, e * (gathered[1] + 1), gathered[1]);
        has_gathered = true;
      } else {
        const lanes_t tail = log1p_lanes<accumulate_t>(e);
        const lanes_t wrong = there ? below : above, right = there ? above : below;
        const lanes_t loss = wrong + tail;
        const lanes_t focused = loss * focus<accumulate_t>(right + tail, gamma);
        add_where(there, loss, sum[kPositive]);
        add_where(missing, loss, sum[kNegative]);
        add_where(there, focused, sum[kFocalPositive]);
        add_where(missing, focused, sum[kFocalNegative]);
      }
      add_regions(there, missing, logit.p);
    }
  }

  // Call it after every kMostNear pixels.
  void lift() {
    if constexpr (kGathers) {
      shares[0].lift();
      shares[1].lift();
    }
  }

  // Call it before 1 + d, which is at most 2^pixels, overflows.
  void settle_gathered() {
    if (kGathers && has_gathered) {
      for (int which = 0; which < 2; ++which) {
        sum[kPositive + which] += log1p_any<accumulate_t>(gathered[which]);
        gathered[which] = lanes_t{};
      }
      has_gathered = false;
    }
  }

  void flush(double* to) {
    settle_gathered();
    if constexpr (kGathers) {
      sum[kPositive] += shares[0].logarithms();
      sum[kNegative] += shares[1].logarithms();
    }
#pragma GCC unroll 8
    for (int kind = 0; kind < kSigmoidSums; ++kind) {
      const bool is_count = kind == kTarget || kind == kCount;
      if (is_summed(kind, parts::regions, parts::focal) && (parts::soft || !is_count)) {
        to[kind] += sum_of<accumulate_t>(sum[kind]);
      }
    }
  }

 private:
  static void add_where(const Integers<accumulate_t>& chosen, const lanes_t& term, lanes_t& to) {
    to = chosen ? to + term : to;
  }
  void add_regions(const Integers<accumulate_t>& there, const Integers<accumulate_t>& missing,
                   const lanes_t& p) {
    if constexpr (parts::regions) {
      add_where(there | missing, p, sum[kProbability]);
      add_where(there, p, sum[kOverlap]);
    }
  }
};

// The derivative of the weighted sums with respect to the logit; zero where the target is void.
template <typename accumulate_t, typename parts>
struct PixelSlope {
  using lanes_t = Register<accumulate_t>;
  accumulate_t weight[kSigmoidSums], gamma;

  // Whether progressions may be used: a weight that is not finite must not reach a node that its
  // pixel does not read, and no weight may overflow when it is multiplied by a power.
  bool moderate() const {
    constexpr accumulate_t kMost = 1e20;
    bool all = true;
    for (int kind = 0; kind < kSigmoidSums; ++kind) {
      const bool counts = is_summed(kind, parts::regions, parts::focal);
      all = all && (!counts || (weight[kind] < kMost && weight[kind] > -kMost));
    }
    return all;
  }

  template <typename logit_t>
  inline lanes_t operator()(const logit_t& logit,
                            const Targets<accumulate_t, parts>& target) const {
    const lanes_t zero = {}, &p = logit.p, &q = logit.q;
    const auto there = target > 0;
    if constexpr (parts::soft) {
      lanes_t negative = weight[kNegative] * ((1 - target) * p);
      lanes_t positive = weight[kPositive] * (target * q), overlap = {};
      if constexpr (parts::regions) {
        overlap = weight[kOverlap] * target;
      }
      // A sum to which a pixel adds nothing may have any weight, even an infinite one.
      if constexpr (!logit_t::kFinite) {
        negative = target < 1 ? negative : zero;
        positive = there ? positive : zero;
        overlap = there ? overlap : zero;
      }
      lanes_t slope = negative - positive;
      if constexpr (parts::regions) {
        slope += (weight[kProbability] + overlap) * (p * q);
      }
      return target >= 0 ? slope : zero;
    } else {
      const auto missing = target == 0;
      lanes_t positive = q * -weight[kPositive], negative = p * weight[kNegative];
      if constexpr (parts::regions) {
        const lanes_t both = p * q;
        positive += (weight[kProbability] + weight[kOverlap]) * both;
        negative += weight[kProbability] * both;
      }
      if constexpr (parts::focal) {
        const lanes_t x = logit.x, tail = log1p_lanes<accumulate_t>(logit.vanishing());
        const lanes_t toward = there ? -x : x;
        const lanes_t wrong = there ? q : p, right = there ? p : q;
        const lanes_t focused = focus<accumulate_t>(larger(zero, -toward) + tail, gamma);
        const lanes_t steep = focused * (gamma * (right * (larger(zero, toward) + tail)) + wrong);
        positive -= steep * weight[kFocalPositive];
        negative += steep * weight[kFocalNegative];
      }
      const lanes_t known = missing ? negative : zero;
      return there ? positive : known;
    }
  }
};

}  // namespace
}  // namespace fcn_ext
