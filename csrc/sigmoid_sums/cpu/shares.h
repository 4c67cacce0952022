// One logarithm for many pixels: of what they leave together. For *kernels.cpp files only
// (common/cpu/capability.h says why the anonymous namespace).
#pragma once

#include "common/cpu/lanes_math.h"
#include "common/logarithms.h"

namespace fcn_ext {
namespace {

// ln(1 + d) for d >= 0; small results are accurate to the last places, too: the quotient makes up
// for what rounding 1 + d takes from d.
template <typename accumulate_t>
inline Register<accumulate_t> log1p_any(const Register<accumulate_t>& d) {
  using lanes_t = Register<accumulate_t>;
  const lanes_t whole = d + 1, kept = whole - 1;
  const lanes_t log = log2_lanes<accumulate_t>(whole) * static_cast<accumulate_t>(kLn2);
  return kept == 0 ? d : log * (d / kept);
}

// The sum of -ln(1 - w) over a lane's pixels, 0 <= w < 1, by one logarithm: of what is left of one
// after each pixel takes a share w of it. What is taken is summed, too, which is precise if next to
// nothing is taken.
template <typename accumulate_t>
struct Shares {
  using lanes_t = Register<accumulate_t>;
  static constexpr bool kDouble = sizeof(accumulate_t) == 8;
  // Keeps what is left from vanishing: below kFloor it is multiplied by 2^kLift. From one lift to
  // the next a float may lose 96 bits: to eight pixels with logits up to 8 from zero, or to two
  // with logits up to 33.
  static constexpr accumulate_t kFloor = kDouble ? 0x1p-400 : 0x1p-30;
  static constexpr int kLift = kDouble ? 800 : 96;
  static constexpr accumulate_t kLifted = kDouble ? 0x1p800 : 0x1p96;

  lanes_t left = all_lanes<accumulate_t>(1), lost = {}, lifts = {};

  // Takes the share w of the chosen lanes; rest = 1 - w.
  void take(const Integers<accumulate_t>& chosen, const lanes_t& w, const lanes_t& rest) {
    lost = chosen ? lost + left * w : lost;
    left = chosen ? left * rest : left;
  }

  void lift() {
    const auto low = left < kFloor;
    left = low ? left * kLifted : left;
    lifts = low ? lifts + 1 : lifts;
  }

  lanes_t logarithms() const {
    const lanes_t inverse = reciprocal(left);
    const lanes_t d = lost * inverse;  // inverse - 1, unless `left` was lifted
    const auto whole_only = lifts > 0;
    const lanes_t whole = whole_only ? inverse : d + 1, kept = whole - 1;
    const lanes_t log = log2_lanes<accumulate_t>(whole) * static_cast<accumulate_t>(kLn2);
    const lanes_t precise = kept == 0 ? d : log * (d / kept);  // as in log1p_any
    return whole_only ? log + lifts * static_cast<accumulate_t>(kLift * kLn2) : precise;
  }
};

}  // namespace
}  // namespace fcn_ext
