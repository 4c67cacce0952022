// A pixel's logit and its sigmoids, a register of pixels at a time. For *kernels.cpp files only
// (common/cpu/capability.h says why the anonymous namespace).
#pragma once

#include "common/cpu/lanes_math.h"
#include "common/logarithms.h"

namespace fcn_ext {
namespace {

// A logit x with e = exp(-|x|), p = sigmoid(x), q = 1 - p.
template <typename accumulate_t>
struct AnyLogit {
  using lanes_t = Register<accumulate_t>;
  // Nodes may be infinite, even one that the logit reads with weight zero.
  static constexpr bool kFinite = false;
  lanes_t x, e, p, q;  // p and q are NaN where x is

  __attribute__((always_inline)) explicit AnyLogit(const lanes_t& logit) : x(logit) {
    const lanes_t away = x < 0 ? x : -x;
    e = exp2_lanes<accumulate_t>(away * static_cast<accumulate_t>(kLog2E));
    const lanes_t more = reciprocal(e + 1), less = e * more;
    p = x >= 0 ? more : less;
    q = x >= 0 ? less : more;
    p = x == x ? p : x;
    q = x == x ? q : x;
  }
  lanes_t vanishing() const { return e; }
};

// With logits this near to zero, Shares can take kMostNear pixels before a lift.
constexpr double kNearLogit = 8;
constexpr int64_t kMostNear = 8;
// If two logits are no farther than this from zero, exp2_lanes can take the ratio of their powers.
constexpr double kLargestLogit = 33;

// The logits of a column from row to row of a cell, where exp(x) is a geometric progression.
template <typename accumulate_t, bool near>
struct LogitProgression {
  using lanes_t = Register<accumulate_t>;
  static constexpr bool kFinite = true, kNear = near;
  lanes_t step;  // of the logit
  lanes_t x, p, q, power, inverse, ratio, inverse_ratio;

  __attribute__((always_inline)) LogitProgression(const lanes_t& first_logit,
                                                  const lanes_t& logit_step,
                                                  const lanes_t& first_power,
                                                  const lanes_t& power_ratio)
      : step(logit_step), x(first_logit), power(first_power), ratio(power_ratio) {
    inverse = reciprocal(power);
    inverse_ratio = reciprocal(ratio);
    divide();
  }
  __attribute__((always_inline)) void advance() {
    x += step;
    power *= ratio;
    inverse *= inverse_ratio;
    divide();
  }
  __attribute__((always_inline)) void divide() {
    q = reciprocal(power + 1);
    p = power * q;
  }
  lanes_t vanishing() const { return smaller(power, inverse); }
};

}  // namespace
}  // namespace fcn_ext
