// Targets of some pixels as numbers: in [0, 1], or kVoidMask. For *kernels.cpp files only
// (common/cpu/capability.h says why the anonymous namespace).
#pragma once

#include "common/cpu/element.h"
#include "sigmoid_sums/sigmoid_sums.h"

namespace fcn_ext {
namespace {

template <typename label_t>
struct SignedOf {
  using type = label_t;
};
template <>
struct SignedOf<uint8_t> {
  using type = int8_t;
};

// Returns whether a label is none of zero, one and void. `has_void`: labels can be `void_label`.
template <typename label_t, typename accumulate_t>
bool hard_targets(const label_t* __restrict from, int64_t count, bool has_void, label_t void_label,
                  accumulate_t* __restrict to) {
  using signed_t = typename SignedOf<label_t>::type;
  static_assert(kVoidMask == -1);  // all bits
  label_t wrong = 0;
  for (int64_t i = 0; i < count; ++i) {
    const label_t label = from[i];
    const label_t is_void = has_void && label == void_label ? static_cast<label_t>(-1) : label_t{0};
    wrong = static_cast<label_t>(wrong | (label & static_cast<label_t>(~is_void)));
    to[i] = static_cast<accumulate_t>(static_cast<signed_t>(label | is_void));
  }
  return (wrong & static_cast<label_t>(~label_t{1})) != 0;
}

template <typename soft_t, typename accumulate_t>
bool soft_targets(const soft_t* from, int64_t count, accumulate_t* to) {
  bool right = true;
  for (int64_t i = 0; i < count; ++i) {
    const auto target = load(from[i]);
    right = right && target >= 0 && target <= 1;
    to[i] = static_cast<accumulate_t>(target);
  }
  return !right;
}

constexpr int64_t kMostTargets = 256;  // at a time

// The targets of `count` pixels side by side, from `place` on.
template <typename target_t, typename accumulate_t, typename Convert>
bool converted(const SigmoidSums& problem, int64_t place, int64_t count, accumulate_t* to,
               const Convert& convert) {
  const target_t* from = static_cast<const target_t*>(problem.target.data) + place;
  const int64_t step = problem.target.strides.column;
  if (step == 1) {
    return convert(from, to);
  }
  target_t side_by_side[kMostTargets];
  for (int64_t i = 0; i < count; ++i) {
    side_by_side[i] = from[i * step];
  }
  return convert(static_cast<const target_t*>(side_by_side), to);
}

template <typename label_t, typename accumulate_t>
bool load_labels(const SigmoidSums& problem, int64_t place, int64_t count, accumulate_t* to) {
  const label_t void_label = static_cast<label_t>(problem.ignore_index);
  const bool has_void = static_cast<int64_t>(void_label) == problem.ignore_index;
  return converted<label_t>(problem, place, count, to, [&](const label_t* from, accumulate_t* out) {
    return hard_targets(from, count, has_void, void_label, out);
  });
}

template <typename soft_t, typename accumulate_t>
bool load_soft(const SigmoidSums& problem, int64_t place, int64_t count, accumulate_t* to) {
  return converted<soft_t>(problem, place, count, to, [&](const soft_t* from, accumulate_t* out) {
    return soft_targets(from, count, out);
  });
}

// to[0, count): the targets from element `place` of the map on; void from there to a whole
// register. Returns whether one of them is out of range.
template <typename accumulate_t>
bool load_targets(const SigmoidSums& problem, int64_t place, int64_t count, int64_t whole,
                  accumulate_t* to) {
  for (int64_t i = count; i < whole; ++i) {
    to[i] = accumulate_t(kVoidMask);
  }
  switch (problem.target.type) {
    case 0:
      return load_labels<uint8_t>(problem, place, count, to);
    case 1:
      return load_labels<int16_t>(problem, place, count, to);
    case 2:
      return load_labels<int32_t>(problem, place, count, to);
    case 3:
      return load_labels<int64_t>(problem, place, count, to);
    case 4:
      return load_soft<float>(problem, place, count, to);
    case 5:
      return load_soft<double>(problem, place, count, to);
    case 6:
      return load_soft<HalfBits>(problem, place, count, to);
    default:
      return load_soft<BFloat16Bits>(problem, place, count, to);
  }
}

}  // namespace
}  // namespace fcn_ext
