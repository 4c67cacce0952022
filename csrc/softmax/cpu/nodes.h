// Node rows: a strip of one row of coarse scores, all classes, relative to the largest score of
// each node. For *kernels.cpp files only, as all of softmax/cpu but plan.h.
#pragma once

#include "cells/cpu/score_rows.h"
#include "common/logarithms.h"

namespace fcn_ext {
namespace {

// Stands for -infinity, so that no weight of zero makes it NaN: 2^x is zero all the same.
constexpr double kMasked = -1e30;
// A finite score as far below its node's largest is told from these pixel by pixel: blended with
// others, it must not be taken for -infinity, whose part in a pixel is at least 1e-10.
constexpr double kFarthest = -1e19;

// scores[c * pitch + i]: (z_c - peak) * log2(e) at padded node first + i; peak = max over c of z_c.
template <typename accumulate_t>
struct NodeRow {
  accumulate_t* scores;
  accumulate_t* peak;
  accumulate_t* unfit;  // not zero where NaN or +infinity is there, or -infinity throughout, or a
                        // finite score below kFarthest
};

// Padded nodes [first, first + count) of padded row `row`.
template <typename accumulate_t>
void load_row(const Scores<accumulate_t>& input, int64_t row, int64_t first, int64_t count,
              int64_t pitch, const NodeRow<accumulate_t>& out) {
  using lanes_t = Register<accumulate_t>;
  constexpr int64_t kStep = kWidth<accumulate_t>;
  const int64_t classes = input.classes;
  if (!load_scores(input, row, first, count, pitch, out.scores)) {
    for (int64_t i = 0; i < pitch; ++i) {
      out.peak[i] = 0;
      out.unfit[i] = 0;
    }
    return;
  }
  constexpr auto kInfinity = static_cast<accumulate_t>(__builtin_inf());
  for (int64_t i = 0; i < pitch; i += kStep) {
    lanes_t peak = all_lanes<accumulate_t>(-kInfinity);
    for (int64_t c = 0; c < classes; ++c) {
      peak = larger(load_register(out.scores + c * pitch + i), peak);  // passes over NaN
    }
    const lanes_t finite = peak - peak;  // NaN where it is infinite
    lanes_t unfit = finite != finite ? all_lanes<accumulate_t>(1) : lanes_t{};
    for (int64_t c = 0; c < classes; ++c) {
      accumulate_t* at = out.scores + c * pitch + i;
      const lanes_t relative = (load_register(at) - peak) * static_cast<accumulate_t>(kLog2E);
      const auto fits =
          (relative >= static_cast<accumulate_t>(kFarthest)) | (relative == -kInfinity);
      unfit = fits != 0 ? unfit : all_lanes<accumulate_t>(1);
      store_register(at, larger(relative, all_lanes(static_cast<accumulate_t>(kMasked))));
    }
    store_register(out.peak + i, peak);
    store_register(out.unfit + i, unfit);
  }
}

}  // namespace
}  // namespace fcn_ext
