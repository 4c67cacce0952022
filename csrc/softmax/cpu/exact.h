// Cells that progressions cannot handle: scores are not finite, or neighboring nodes disagree so
// much that the shared bound is useless. They are computed pixel by pixel, in double, with the
// pixel's own maximum; lanes = classes.
#pragma once

#include "softmax/cpu/corner_sums.h"
#include "softmax/cpu/strip.h"

namespace fcn_ext {
namespace {

// Scratch of one cell. Every array holds all classes, padded to whole registers.
struct ExactScratch {
  double* corner[4];  // scores, relative to the largest of their node: above left, above right,
                      // below left, below right
  double* share[4];   // of the gradient
  double* logit;

  static ExactScratch take(Scratch& scratch, int64_t classes) {
    ExactScratch taken{};
    for (int k = 0; k < 4; ++k) {
      taken.corner[k] = scratch.take<double>(classes + kWidth<double>);
      taken.share[k] = scratch.take<double>(classes + kWidth<double>);
    }
    taken.logit = scratch.take<double>(classes + kWidth<double>);
    return taken;
  }
};

// Loads the scores at the corners of cell `cell` (local) below padded node row `row`.
template <typename accumulate_t>
void load_corners(const Strip<accumulate_t>& strip, const Group<accumulate_t>& group, int64_t row,
                  int64_t cell, const ExactScratch& scratch) {
  const Scores<accumulate_t>& input = strip.input;
  for (int k = 0; k < 4; ++k) {
    int64_t y = row + k / 2, x = strip.first_cell + cell + k % 2;
    const bool present = input.locate(y, x);
    const int64_t node = present ? input.at(y, x) : 0;
    const auto peak =
        static_cast<double>((k / 2 == 0 ? group.above : group.below).peak[cell + k % 2]);
    for (int64_t c = 0; c < input.classes; ++c) {
      scratch.corner[k][c] = present ? static_cast<double>(input.score(node, c)) - peak : 0.0;
    }
    // The padding of the last register has probability zero.
    for (int64_t c = input.classes; c < input.classes + kWidth<double>; ++c) {
      scratch.corner[k][c] = -kInf;
    }
    for (int64_t c = 0; c < input.classes + kWidth<double>; ++c) {
      scratch.share[k][c] = 0;
    }
  }
}

// A pixel's blend of corner(0) to corner(3), which are registers.
template <typename Corner>
Register<double> blend(const CornerWeights& weight, const Corner& corner) {
  Register<double> sum = {};
  for (int k = 0; k < 4; ++k) {
    if (weight.at[k] != 0) {
      sum += weight.at[k] * corner(k);
    }
  }
  return sum;
}

// ln of the sum of exp(logit - bound) over classes, with the blend of the nodes' largest scores as
// the bound; NaN where torch's log_softmax gives NaN. Leaves 2^(logit - maximum) in scratch.logit
// and its sum in `sum`.
inline double log_sum(const CornerWeights& weight, int64_t classes, const ExactScratch& scratch,
                      double& sum) {
  constexpr int64_t kStep = kWidth<double>;
  using lanes_t = Register<double>;
  lanes_t most = all_lanes(-kInf), unfit = {};
  for (int64_t c = 0; c < classes; c += kStep) {
    const lanes_t logit =
        blend(weight, [&](int k) { return load_register(scratch.corner[k] + c); });
    unfit = logit != logit ? all_lanes(1.0) : unfit;
    most = larger(logit, most);
    store_register(scratch.logit + c, logit);
  }
  double maximum = -kInf;
  bool finite = !any_lane(unfit != 0);
  for (int64_t i = 0; i < kStep; ++i) {
    maximum = most[i] > maximum ? most[i] : maximum;
  }
  finite = finite && maximum > -kInf && maximum < kInf;
  lanes_t sums = {};
  for (int64_t c = 0; c < classes; c += kStep) {
    const lanes_t power = exp2_lanes<double>((load_register(scratch.logit + c) - maximum) * kLog2E);
    sums += power;
    store_register(scratch.logit + c, power);
  }
  sum = finite ? sum_of<double>(sums) : __builtin_nan("");
  return finite ? maximum + kLn2 * log2_lanes<double>(all_lanes(sum))[0] : __builtin_nan("");
}

// Cell `cell` (local) below padded node row `row`. visit(at, ln_sum) gets ln S of each pixel that
// counts and its index `at` in strip.rows. Gradients go to `sums` unless its pointers are null.
template <typename accumulate_t, typename Visit>
void exact_cell(const Strip<accumulate_t>& strip, const Group<accumulate_t>& group, int64_t row,
                int64_t cell, const CornerSums<accumulate_t>& sums, const ExactScratch& scratch,
                const Visit& visit) {
  const int64_t column = strip.first_cell + cell;
  load_corners(strip, group, row, cell, scratch);
  for (int64_t k = 0; k < strip.rows.rows; ++k) {
    for (int64_t output = strip.work.x.begin[column]; output < strip.work.x.begin[column + 1];
         ++output) {
      const int64_t at = k * strip.rows.pitch + output - strip.rows.first_column;
      if (strip.rows.labels[at] < 0) {
        continue;
      }
      const CornerWeights weight(strip.work.y, strip.work.x, strip.rows.first_row + k, output);
      double sum = 0;
      visit(at, log_sum(weight, strip.input.classes, scratch, sum));
      if (sums.above_left == nullptr) {
        continue;
      }
      const double u = static_cast<double>(strip.pixel_weight[at]) / sum;
      for (int i = 0; i < 4; ++i) {
        for (int64_t c = 0; weight.at[i] != 0 && c < strip.input.classes; ++c) {
          scratch.share[i][c] += u * weight.at[i] * scratch.logit[c];
        }
      }
    }
  }
  if (sums.above_left != nullptr) {
    accumulate_t* const to[4] = {sums.above_left, sums.above_right, sums.below_left,
                                 sums.below_right};
    for (int i = 0; i < 4; ++i) {
      for (int64_t c = 0; c < strip.input.classes; ++c) {
        to[i][c * sums.pitch + cell] += static_cast<accumulate_t>(scratch.share[i][c]);
      }
    }
  }
}

}  // namespace
}  // namespace fcn_ext
