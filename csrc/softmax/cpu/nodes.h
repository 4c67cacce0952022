// Node rows: one row of coarse scores of a strip, all classes, relative to the largest score of
// each node. For *kernels.cpp files only, like all of softmax/cpu but plan.h.
#pragma once

#include "cells/cpu/score_rows.h"
#include "common/logarithms.h"

namespace fcn_ext {
namespace {

// Stands for -infinity, because a weight of zero would make that NaN; 2^x is zero all the same.
constexpr double kMasked = -1e30;
// A node with a finite score further below its largest than this is computed pixel by pixel: if
// blended, the score must not pass for -infinity, whose part in a pixel is at least 1e-10.
constexpr double kFarthest = -1e19;

// scores[c * pitch + i]: (z_c - peak) * log2(e) at padded node first + i; peak = max over c of z_c.
template <typename accumulate_t>
struct NodeRow {
  accumulate_t* scores;
  accumulate_t* peak;
  accumulate_t* unfit;  // nonzero if a score is NaN, +infinity or finite but below kFarthest,
                        // or if all are -infinity
};

// Loads padded nodes [first, first + count) of padded row `row`.
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
      peak = larger(load_register(out.scores + c * pitch + i), peak);  // skips NaN
    }
    const lanes_t finite = peak - peak;  // NaN if the peak is infinite
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
