// Targets of some pixels: zeros, ones and kVoidMask, or numbers in [0, 1]. For *kernels.cpp files
// only (common/cpu/capability.h says why the anonymous namespace).
#pragma once

#include <type_traits>

#include "common/cpu/element.h"
#include "sigmoid_sums/sigmoid_sums.h"

namespace fcn_ext {
namespace {

// What was found among some targets: any out of range; any number between zero and one.
struct FoundTargets {
  bool wrong = false, between = false;
};

// Converts `count` labels to zeros, ones and kVoidMask. has_void: labels may be `void_label`.
template <bool has_void, typename label_t>
void hard_targets(const label_t* __restrict from, int64_t count, label_t void_label,
                  int8_t* __restrict to, FoundTargets& found) {
  static_assert(kVoidMask == -1);  // all bits
  using bits_t = std::make_unsigned_t<label_t>;
  const auto convert = [&](const label_t* labels, int64_t some, int8_t* bytes) {
    bits_t joined = 0;
    for (int64_t i = 0; i < some; ++i) {
      const bits_t label = static_cast<bits_t>(labels[i]);
      const bits_t is_void =
          has_void && labels[i] == void_label ? static_cast<bits_t>(-1) : bits_t{0};
      joined = static_cast<bits_t>(joined | (label & static_cast<bits_t>(~is_void)));
      bytes[i] = static_cast<int8_t>(label | is_void);
    }
    return joined;
  };
  // Whole blocks, which the compiler turns into a few vectors.
  constexpr int64_t kBlock = 64;
  const int64_t whole = count / kBlock * kBlock;
  bits_t joined = convert(from, whole, to);
  if (whole < count && whole > 0) {  // convert the last block again, up to the last label
    joined =
        static_cast<bits_t>(joined | convert(from + count - kBlock, kBlock, to + count - kBlock));
  } else if (whole < count) {
    label_t rest[kBlock] = {};
    __builtin_memcpy(rest, from + whole, (count - whole) * sizeof(label_t));
    int8_t bytes[kBlock];
    joined = static_cast<bits_t>(joined | convert(rest, kBlock, bytes));
    __builtin_memcpy(to + whole, bytes, count - whole);
  }
  found.wrong |= (joined & static_cast<bits_t>(~bits_t{1})) != 0;
}

template <typename soft_t, typename accumulate_t>
void soft_targets(const soft_t* __restrict from, int64_t count, accumulate_t* __restrict to,
                  FoundTargets& found) {
  int right = 1, hard = 1;
  for (int64_t i = 0; i < count; ++i) {
    const auto target = load(from[i]);
    right &= static_cast<int>(target >= 0) & static_cast<int>(target <= 1);
    hard &= static_cast<int>(target == 0) | static_cast<int>(target == 1);
    to[i] = static_cast<accumulate_t>(target);
  }
  found.wrong |= right == 0;
  found.between |= hard == 0;
}

constexpr int64_t kMostTargets = 256;  // at a time
constexpr int64_t kMostRest = 16;      // that fill up a register, at most

constexpr int64_t kTargetBytes[] = {1, 2, 4, 8, 4, 8, 2, 2};  // by MaskMap::type

// Calls convert(data) with the targets of `count` pixels from element `place` on, contiguous.
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

// Void targets from to[count] on, unless a register is full: kMostRest of them, in one store.
template <typename target_t>
void fill_up(int64_t count, int64_t whole, target_t* to) {
  if (count < whole) {
    for (int64_t i = 0; i < kMostRest; ++i) {
      to[count + i] = static_cast<target_t>(kVoidMask);
    }
  }
}

// to[0, count): the targets from element `place` of the map on; void from there to a whole
// register, and maybe beyond. Labels become bytes: zero, one or kVoidMask.
inline void load_targets(const SigmoidSums& problem, int64_t place, int64_t count, int64_t whole,
                         int8_t* to, FoundTargets& found) {
  fill_up(count, whole, to);
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
  fill_up(count, whole, to);
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

struct LabelCounts {
  int64_t ones, zeros;
};

// Counts `rows` rows, at most 100, of `whole` labels, kMostTargets apart. Void has all bits set:
// lowest bits count what is not zero, and labels add up to ones minus voids.
inline LabelCounts count_labels(const int8_t* labels, int64_t rows, int64_t whole) {
  int8_t nonzero[kMostTargets] = {}, sum[kMostTargets] = {};
  for (int64_t k = 0; k < rows; ++k) {
    const int8_t* const row = labels + k * kMostTargets;
    for (int64_t i = 0; i < kMostTargets; ++i) {
      nonzero[i] = static_cast<int8_t>(nonzero[i] + (row[i] & 1));
      sum[i] = static_cast<int8_t>(sum[i] + row[i]);
    }
  }
  int32_t all_nonzero = 0, all_sum = 0;
  for (int64_t i = 0; i < whole; ++i) {
    all_nonzero += nonzero[i];
    all_sum += sum[i];
  }
  return {(all_nonzero + all_sum) / 2, rows * whole - all_nonzero};
}

}  // namespace
}  // namespace fcn_ext
