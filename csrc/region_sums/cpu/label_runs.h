// The labels of a group of cells, pixel by pixel: each lane keeps the scores of its label's class
// while the label stays the same, as it does nearly everywhere. For kernels.cpp only.
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

template <typename accumulate_t>
class LabelRuns {
  using lanes_t = Register<accumulate_t>;
  using labels_t = Integers<accumulate_t>;

 public:
  // Whose label is `from` from the first pixel on; factors: of classes, or null.
  LabelRuns(const Group<accumulate_t>& given, const accumulate_t* class_factors)
      : group(given), factors(class_factors) {
    for (int64_t lane = 0; lane < kWidth<accumulate_t>; ++lane) {
      label[lane] = -1;
      factor[lane] = 0;
      for (auto& of : corner) {
        of[lane] = 0;
      }
    }
  }

  // On to the next pixel of every lane, where `next` is below zero to one that does not count:
  // there the label stays. Before one changes, leave(lane, label).
  template <typename Leave>
  inline void move_to(const labels_t& next, const Leave& leave) {
    const labels_t differs = (next >= 0) & (next != label);
    if (any_lane(differs)) {
      change(next, differs, leave);
    }
  }

  // leave(lane, label) for every lane that has a label.
  template <typename Leave>
  void finish(const Leave& leave) const {
    for (int64_t lane = 0; lane < kWidth<accumulate_t>; ++lane) {
      if (label[lane] >= 0) {
        leave(lane, static_cast<int32_t>(label[lane]));
      }
    }
  }

  // log2 of the label's power at a pixel.
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
    for (int64_t lane = 0; lane < kWidth<accumulate_t>; ++lane) {
      if (differs[lane] == 0) {
        continue;
      }
      if (label[lane] >= 0) {
        leave(lane, static_cast<int32_t>(label[lane]));
      }
      label[lane] = next[lane];
      const int64_t at = next[lane] * group.pitch + group.first + lane;
      corner[0][lane] = group.above.scores[at];
      corner[1][lane] = group.above.scores[at + 1];
      corner[2][lane] = group.below.scores[at];
      corner[3][lane] = group.below.scores[at + 1];
      factor[lane] = factors != nullptr ? factors[next[lane]] : accumulate_t(0);
    }
  }
};

}  // namespace
}  // namespace fcn_ext
