// The labels of a group of cells, pixel by pixel: each lane holds the scores of its label's class
// until the label changes, which it rarely does. For kernels.cpp only.
#pragma once

#include "softmax/cpu/group.h"

namespace fcn_ext {
namespace {

// { from[at[0] - base], ... }, -1 where at < 0.
template <typename accumulate_t>
inline Integers<accumulate_t> gather_labels(const int32_t* from, const int32_t* at, int32_t base) {
#if defined(__AVX512F__)
  if constexpr (sizeof(accumulate_t) == 4) {
    const __m512i index = _mm512_loadu_si512(at);
    const __mmask16 present = _mm512_cmpge_epi32_mask(index, _mm512_setzero_si512());
    return (Integers<accumulate_t>)_mm512_mask_i32gather_epi32(
        _mm512_set1_epi32(-1), present, _mm512_sub_epi32(index, _mm512_set1_epi32(base)), from, 4);
  }
#endif
  Integers<accumulate_t> labels = {};
  for (int64_t i = 0; i < kWidth<accumulate_t>; ++i) {
    labels[i] = at[i] < 0 ? -1 : from[at[i] - base];
  }
  return labels;
}

// A bit for every lane in which a comparison holds.
template <typename accumulate_t>
inline uint32_t lane_bits(const Integers<accumulate_t>& holds) {
#if defined(__AVX512DQ__)
  if constexpr (sizeof(accumulate_t) == 4) {
    return _mm512_movepi32_mask((__m512i)holds);
  } else {
    return _mm512_movepi64_mask((__m512i)holds);
  }
#else
  uint32_t bits = 0;
  for (int64_t i = 0; i < kWidth<accumulate_t>; ++i) {
    bits |= (holds[i] != 0 ? 1u : 0u) << i;
  }
  return bits;
#endif
}

// A choice of lanes, and the labels of all lanes.
template <typename accumulate_t>
struct LabeledLanes {
  Integers<accumulate_t> chosen;  // ones where chosen
  typename IntegersOf<accumulate_t>::one label[kWidth<accumulate_t>];

  LabeledLanes(const Integers<accumulate_t>& which, const Integers<accumulate_t>& labels)
      : chosen(which) {
    __builtin_memcpy(label, &labels, sizeof(label));
  }

  // Calls visit(lane, label) for the chosen lanes, in ascending order.
  template <typename Visit>
  inline void each(const Visit& visit) const {
    for (uint32_t left = lane_bits<accumulate_t>(chosen); left != 0; left &= left - 1) {
      const int lane = __builtin_ctz(left);
      visit(lane, static_cast<int64_t>(label[lane]));
    }
  }
};

template <typename accumulate_t>
class LabelRuns {
  using lanes_t = Register<accumulate_t>;
  using labels_t = Integers<accumulate_t>;

 public:
  // class_factors: one per class, or null.
  LabelRuns(const Group<accumulate_t>& given, const accumulate_t* class_factors)
      : group(given), factors(class_factors), label(labels_t{} - 1) {
    for (int64_t lane = 0; lane < kWidth<accumulate_t>; ++lane) {
      factor[lane] = 0;
      for (auto& of : corner) {
        of[lane] = 0;
      }
    }
  }

  // Moves on to the next pixel of every lane. A negative `next` stands for a pixel that does not
  // count, where the lane's label stays. Before labels change, calls leave(lanes that had a label).
  template <typename Leave>
  inline void move_to(const labels_t& next, const Leave& leave) {
    const labels_t differs = (next >= 0) & (next != label);
    if (any_lane(differs)) {
      change(next, differs, leave);
    }
  }

  // Calls leave(lanes that have a label).
  template <typename Leave>
  void finish(const Leave& leave) const {
    leave(LabeledLanes<accumulate_t>(label >= 0, label));
  }

  // The label's score at a pixel: log2 of its power.
  inline lanes_t score(const lanes_t& x_lower, const lanes_t& x_upper, accumulate_t y_lower,
                       accumulate_t y_upper) const {
    const lanes_t above = x_lower * load_register(corner[0]) + x_upper * load_register(corner[1]);
    const lanes_t below = x_lower * load_register(corner[2]) + x_upper * load_register(corner[3]);
    return y_lower * above + y_upper * below;
  }
  inline lanes_t label_factor() const { return load_register(factor); }

 private:
  const Group<accumulate_t>& group;
  const accumulate_t* factors;
  labels_t label;
  accumulate_t corner[4][kWidth<accumulate_t>];
  accumulate_t factor[kWidth<accumulate_t>];

  template <typename Leave>
  void change(const labels_t& next, const labels_t& differs, const Leave& leave) {
    leave(LabeledLanes<accumulate_t>(differs & (label >= 0), label));
    LabeledLanes<accumulate_t>(differs, next).each([&](int lane, int64_t to) {
      const int64_t at = to * group.pitch + group.first + lane;
      corner[0][lane] = group.above.scores[at];
      corner[1][lane] = group.above.scores[at + group.next];
      corner[2][lane] = group.below.scores[at];
      corner[3][lane] = group.below.scores[at + group.next];
      factor[lane] = factors != nullptr ? factors[to] : accumulate_t(0);
    });
    label = differs != 0 ? next : label;
  }
};

}  // namespace
}  // namespace fcn_ext
