// Rows of pixels between two node rows of a mask, and what is taken from them: sums, and slopes,
// which are gathered at the node rows. For *kernels.cpp files only (common/cpu/capability.h says
// why the anonymous namespace).
#pragma once

#include "sigmoid_sums/cpu/pixel.h"
#include "sigmoid_sums/cpu/rows.h"
#include "sigmoid_sums/cpu/targets.h"

namespace fcn_ext {
namespace {

constexpr int64_t kMostRows = kMostNear;  // of a cell row that are worked on at once
constexpr int64_t kFewRows = 3;           // fewer rows are cheaper without a progression
constexpr int64_t kSettled = 64;          // pixels of a lane whose 1 + d does not overflow

// How far from zero the logits of a register of columns between two node rows may be.
enum class Logits : uint8_t { kAny, kFar, kNear };

// Some rows of a cell row, and the two node rows around them, widened to all columns.
template <typename accumulate_t>
struct Strip {
  using lanes_t = Register<accumulate_t>;
  using integers_t = Integers<accumulate_t>;

  Strip(const MaskRows<accumulate_t>& rows, Scratch& scratch)
      : above(rows.take(scratch)),
        below(rows.take(scratch)),
        slopes_above(rows.take(scratch)),
        slopes_below(rows.take(scratch)),
        powers(scratch.take<accumulate_t>(kMostTargets)),
        ratios(rows.take(scratch)),
        kinds(reinterpret_cast<Logits*>(rows.take(scratch))) {}

  // Finds where the progressions of each register of columns start, and in the first rows of a cell
  // also which logits it has and the ratio from row to row. All registers at once: one exponential
  // waits for each of its steps, many overlap.
  void start_columns(int64_t column, int64_t whole, bool moderate) {
    constexpr int64_t kStep = kWidth<accumulate_t>;
    const bool progress = count >= kFewRows && moderate;
    if (is_first) {
      find_kinds(column, whole, progress);
    }
    if (!progress) {
      return;
    }
    // Powers of registers without a progression are not read.
    const accumulate_t *const from = above + column, *const to = below + column;
    accumulate_t* const __restrict of_first = powers;
    accumulate_t* const __restrict of_step = ratios + column;
    for (int64_t i = 0; i < whole; i += kStep) {
      const lanes_t a = load_register(from + i), b = load_register(to + i);
      store_register(of_first + i, exponential(first_of(a, b)));
      if (is_first) {
        store_register(of_step + i, exponential(step_of(a, b)));
      }
    }
  }

  // Calls body(k, logit) in every row k of a register of columns, the one at `i` of those that were
  // started. Uses a progression, unless there are too few rows or the nodes are too far from zero
  // for one or not finite.
  template <typename Body>
  __attribute__((always_inline)) void each_row(int64_t column, int64_t i, const Body& body) const {
    const lanes_t a = load_register(above + column + i), b = load_register(below + column + i);
    const auto progression = [&](auto logit) __attribute__((always_inline)) {
      body(0, logit);
      for (int64_t k = 1; k < count; ++k) {
        logit.advance();
        body(k, logit);
      }
    };
    const Logits kind = kinds[(column + i) / kWidth<accumulate_t>];
    if (kind == Logits::kAny || count < kFewRows) {
      for (int64_t k = 0; k < count; ++k) {
        const lanes_t lower = y_lower[k] * a;
        body(k, AnyLogit<accumulate_t>(y_upper[k] != 0 ? lower + y_upper[k] * b : lower));
      }
      return;
    }
    const lanes_t first = first_of(a, b), step = step_of(a, b);
    const lanes_t power = load_register(powers + i), ratio = load_register(ratios + column + i);
    if (kind == Logits::kNear) {
      progression(LogitProgression<accumulate_t, true>(first, step, power, ratio));
    } else {
      progression(LogitProgression<accumulate_t, false>(first, step, power, ratio));
    }
  }

  accumulate_t* above;  // wide node rows
  accumulate_t* below;
  accumulate_t* slopes_above;  // gradients gathered in these rows
  accumulate_t* slopes_below;
  bool is_first = true;  // whether these are the first rows of a cell
  int64_t count = 0;     // rows, and the weights of the node rows there
  accumulate_t y_lower[kMostRows], y_upper[kMostRows];
  accumulate_t weight_step = 0;  // change of y_upper from row to row

 private:
  // Mostly the logits of all registers are near zero, so they are checked together first.
  void find_kinds(int64_t column, int64_t whole, bool progress) {
    constexpr int64_t kStep = kWidth<accumulate_t>;
    Logits* const found = kinds + column / kStep;
    const int64_t registers = whole / kStep;
    const auto magnitude = [&](int64_t i) {
      return larger_magnitude(load_register(above + column + i * kStep),
                              load_register(below + column + i * kStep));
    };
    const auto far = bits_of(kLargestLogit), near = bits_of(kNearLogit);
    const auto all_are = [&](Logits kind) {
      for (int64_t i = 0; i < registers; ++i) {
        found[i] = kind;
      }
    };
    if (!progress) {
      return all_are(Logits::kAny);
    }
    integers_t largest = {};
    for (int64_t i = 0; i < registers; ++i) {
      const integers_t one = magnitude(i);
      largest = one > largest ? one : largest;
    }
    if (!any_lane(largest >= near)) {
      return all_are(Logits::kNear);
    }
    for (int64_t i = 0; i < registers; ++i) {
      const integers_t one = magnitude(i);
      found[i] = any_lane(one >= far)    ? Logits::kAny
                 : any_lane(one >= near) ? Logits::kFar
                                         : Logits::kNear;
    }
  }

  // The bits of the larger of |a| and |b|, ordered like these, with NaN above all numbers.
  static integers_t larger_magnitude(const lanes_t& a, const lanes_t& b) {
    using one = typename IntegersOf<accumulate_t>::one;
    constexpr auto kAllButSign = static_cast<one>(sizeof(one) == 8 ? INT64_MAX : INT32_MAX);
    const integers_t of_a = (integers_t)a & kAllButSign, of_b = (integers_t)b & kAllButSign;
    return of_a > of_b ? of_a : of_b;
  }
  static typename IntegersOf<accumulate_t>::one bits_of(double number) {
    const accumulate_t rounded = static_cast<accumulate_t>(number);
    typename IntegersOf<accumulate_t>::one bits;
    __builtin_memcpy(&bits, &rounded, sizeof(bits));
    return bits;
  }
  static lanes_t exponential(const lanes_t& x) {
    return exp2_lanes<accumulate_t>(x * static_cast<accumulate_t>(kLog2E));
  }
  lanes_t first_of(const lanes_t& a, const lanes_t& b) const {
    return y_lower[0] * a + y_upper[0] * b;
  }
  lanes_t step_of(const lanes_t& a, const lanes_t& b) const { return (b - a) * weight_step; }

  accumulate_t* powers;  // [kMostTargets]: exp(x) in the first row
  accumulate_t* ratios;  // from row to row, per column
  Logits* kinds;         // per register of columns
};

// Takes sums and slopes from pixels with targets of one kind.
template <typename accumulate_t, typename parts>
struct Pixels {
  using lanes_t = Register<accumulate_t>;
  using target_t = typename TargetsOf<accumulate_t, parts::soft>::one;

  explicit Pixels(Scratch& scratch)
      : targets(scratch.take<target_t>(kMostRows * kMostTargets + kMostRest)) {}

  void set_weights(const accumulate_t* weight) {
    for (int kind = 0; kind < kSigmoidSums; ++kind) {
      slope.weight[kind] = weight[kind];
    }
    moderate = slope.moderate();
  }

  // Takes the pixels of the strip's rows in `whole` columns from `column` on, whose targets are
  // loaded. Adds their sums to `total`.
  template <bool with_sums, bool with_slopes>
  __attribute__((noinline)) void take(Strip<accumulate_t>& strip, int64_t column, int64_t whole,
                                      double* total) {
    constexpr int64_t kStep = kWidth<accumulate_t>;
    PixelSums<accumulate_t, parts> sums(slope.gamma);  // in registers
    strip.start_columns(column, whole, moderate);
    for (int64_t i = 0; i < whole; i += kStep) {
      lanes_t to_above = {}, to_below = {};
      strip.each_row(column, i, [&](int64_t k, const auto& logit) {
        const auto target = target_at(k * kMostTargets + i);
        if constexpr (with_sums) {
          sums.add(logit, target);
        }
        if constexpr (with_slopes) {
          const lanes_t pixel = slope(logit, target);
          to_above += strip.y_lower[k] * pixel;
          if (logit.kFinite || strip.y_upper[k] != 0) {
            to_below += strip.y_upper[k] * pixel;
          }
        }
      });
      if (with_sums) {
        sums.lift();
      }
      if (with_sums && (i / kStep + 1) % (kSettled / kMostRows) == 0) {
        sums.settle_gathered();
      }
      if (with_slopes) {
        accumulate_t* const above_at = strip.slopes_above + column + i;
        accumulate_t* const below_at = strip.slopes_below + column + i;
        store_register(above_at, load_register(above_at) + to_above);
        store_register(below_at, load_register(below_at) + to_below);
      }
    }
    if constexpr (with_sums) {
      sums.flush(total);
      if constexpr (!parts::soft) {
        const LabelCounts found = count_labels(targets, strip.count, whole);
        total[kTarget] += static_cast<double>(found.ones);
        total[kCount] += static_cast<double>(found.ones + found.zeros);
      }
    }
  }

  PixelSlope<accumulate_t, parts> slope{};
  bool moderate = true;  // whether the slopes' weights are
  target_t* targets;     // [kMostRows][kMostTargets]

 private:
  Targets<accumulate_t, parts> target_at(int64_t place) const {
    if constexpr (parts::soft) {
      return load_register(targets + place);
    } else {
      return load_integers<accumulate_t>(targets + place);
    }
  }
};

}  // namespace
}  // namespace fcn_ext
