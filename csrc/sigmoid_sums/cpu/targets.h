// Targets of some pixels: zeros, ones and kVoidMask, or numbers in [0, 1]. For *kernels.cpp files
// only (common/cpu/capability.h says why the anonymous namespace).
#pragma once

#include "common/cpu/element.h"
#include "sigmoid_sums/sigmoid_sums.h"

namespace fcn_ext {
namespace {

// What was found among some targets.
struct FoundTargets {
  bool wrong = false;             // out of range
  int64_t ones = 0, counted = 0;  // of zeros and ones
};

constexpr int64_t kSummed = 128;  // labels of a byte each, whose ones a byte can count

// has_void: labels can be `void_label`.
template <bool has_void, typename label_t>
void hard_targets(const label_t* __restrict from, int64_t count, label_t void_label,
                  int8_t* __restrict to, FoundTargets& found) {
  static_assert(kVoidMask == -1);  // all bits
  label_t joined = 0;
  for (int64_t first = 0; first < count; first += kSummed) {
    const int64_t end = count - first < kSummed ? count : first + kSummed;
    label_t ones = 0, voids = 0;
    for (int64_t i = first; i < end; ++i) {
      const label_t label = from[i];
      const label_t is_void =
          has_void && label == void_label ? static_cast<label_t>(-1) : label_t{0};
      const label_t known = label & static_cast<label_t>(~is_void);
      joined = static_cast<label_t>(joined | known);
      ones = static_cast<label_t>(ones + known);
      voids = static_cast<label_t>(voids + (is_void & label_t{1}));
      to[i] = static_cast<int8_t>(label | is_void);
    }
    found.ones += static_cast<int64_t>(ones);
    found.counted += end - first - static_cast<int64_t>(voids);
  }
  found.wrong |= (joined & static_cast<label_t>(~label_t{1})) != 0;
}

template <typename soft_t, typename accumulate_t>
void soft_targets(const soft_t* from, int64_t count, accumulate_t* to, FoundTargets& found) {
  bool right = true;
  for (int64_t i = 0; i < count; ++i) {
    const auto target = load(from[i]);
    right = right && target >= 0 && target <= 1;
    to[i] = static_cast<accumulate_t>(target);
  }
  found.wrong |= !right;
}

constexpr int64_t kMostTargets = 256;  // at a time

// Calls convert(data) of the targets of `count` pixels from element `place` on, side by side.
template <typename target_t, typename Convert>
void with_targets(const SigmoidSums& problem, int64_t place, int64_t count,
                  const Convert& convert) {
  const target_t* from = static_cast<const target_t*>(problem.target.data) + place;
  const int64_t step = problem.target.strides.column;
  if (step == 1) {
    return convert(from);
  }
  target_t side_by_side[kMostTargets];
  for (int64_t i = 0; i < count; ++i) {
    side_by_side[i] = from[i * step];
  }
  convert(static_cast<const target_t*>(side_by_side));
}

template <typename label_t>
void load_labels(const SigmoidSums& problem, int64_t place, int64_t count, int8_t* to,
                 FoundTargets& found) {
  const label_t void_label = static_cast<label_t>(problem.ignore_index);
  with_targets<label_t>(problem, place, count, [&](const label_t* from) {
    if (static_cast<int64_t>(void_label) == problem.ignore_index) {
      hard_targets<true>(from, count, void_label, to, found);
    } else {
      hard_targets<false>(from, count, void_label, to, found);
    }
  });
}

template <typename soft_t, typename accumulate_t>
void load_soft(const SigmoidSums& problem, int64_t place, int64_t count, accumulate_t* to,
               FoundTargets& found) {
  with_targets<soft_t>(problem, place, count,
                       [&](const soft_t* from) { soft_targets(from, count, to, found); });
}

// to[0, count): the targets from element `place` of the map on; void from there to a whole
// register. Labels are bytes: zero, one or kVoidMask.
inline void load_targets(const SigmoidSums& problem, int64_t place, int64_t count, int64_t whole,
                         int8_t* to, FoundTargets& found) {
  for (int64_t i = count; i < whole; ++i) {
    to[i] = kVoidMask;
  }
  switch (problem.target.type) {
    case 0:
      return load_labels<uint8_t>(problem, place, count, to, found);
    case 1:
      return load_labels<int16_t>(problem, place, count, to, found);
    case 2:
      return load_labels<int32_t>(problem, place, count, to, found);
    default:
      return load_labels<int64_t>(problem, place, count, to, found);
  }
}

template <typename accumulate_t>
void load_targets(const SigmoidSums& problem, int64_t place, int64_t count, int64_t whole,
                  accumulate_t* to, FoundTargets& found) {
  for (int64_t i = count; i < whole; ++i) {
    to[i] = accumulate_t(kVoidMask);
  }
  switch (problem.target.type) {
    case 4:
      return load_soft<float>(problem, place, count, to, found);
    case 5:
      return load_soft<double>(problem, place, count, to, found);
    case 6:
      return load_soft<HalfBits>(problem, place, count, to, found);
    default:
      return load_soft<BFloat16Bits>(problem, place, count, to, found);
  }
}

}  // namespace
}  // namespace fcn_ext
