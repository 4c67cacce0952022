// The greatest class of every pixel of a group of cells side by side, one cell per lane.
//
// Most classes never win. Let a be the class with the greatest sum of corner scores of a cell. A
// class c that is below a at every corner is below a at every pixel, because a pixel is a convex
// combination of corners. A class that is below or equal at every corner loses too if a comes
// first; if c comes first, it loses unless it equals a at every corner that the pixel reads. Such
// classes are dropped. If one class is left for all cells, it wins without a look at any pixel. For
// *kernels.cpp files only.
#pragma once

#include "cells/cpu/score_rows.h"
#include "common/logarithms.h"

namespace fcn_ext {
namespace {

// Stands for -infinity, because a weight of zero would make that NaN. A pixel whose best class is
// below kLeastBest is computed again by itself (exact_pixel).
template <typename accumulate_t>
constexpr accumulate_t kLowest =
    sizeof(accumulate_t) == 8 ? accumulate_t(-1e300) : accumulate_t(-1e38);
template <typename accumulate_t>
constexpr accumulate_t kLeastBest = kLowest<accumulate_t> * accumulate_t(1e-12);

// scores[c * pitch + i] of padded node first + i; unfit[i] is nonzero if a score is NaN or
// +infinity.
template <typename accumulate_t>
struct ScoreRow {
  accumulate_t* scores;
  accumulate_t* unfit;
};

template <typename accumulate_t>
void load_row(const Scores<accumulate_t>& input, int64_t row, int64_t first, int64_t count,
              int64_t pitch, const ScoreRow<accumulate_t>& out) {
  using lanes_t = Register<accumulate_t>;
  constexpr auto kInfinity = static_cast<accumulate_t>(__builtin_inf());
  load_scores(input, row, first, count, pitch, out.scores);
  for (int64_t i = 0; i < pitch; i += kWidth<accumulate_t>) {
    lanes_t unfit = {};
    for (int64_t c = 0; c < input.classes; ++c) {
      accumulate_t* at = out.scores + c * pitch + i;
      const lanes_t score = load_register(at);
      unfit = score < kInfinity ? unfit : all_lanes<accumulate_t>(1);
      store_register(at, larger(score, all_lanes(kLowest<accumulate_t>)));
    }
    store_register(out.unfit + i, unfit);
  }
}

// A class's scores at the corners; lanes = cells.
template <typename accumulate_t>
struct CellCorners {
  Register<accumulate_t> at[4];

  Register<accumulate_t> sum() const { return (at[0] + at[1]) + (at[2] + at[3]); }
  Register<accumulate_t> lowest() const {
    return smaller(smaller(at[0], at[1]), smaller(at[2], at[3]));
  }
};

template <typename accumulate_t>
struct CellGroup {
  const ScoreRow<accumulate_t>& above;
  const ScoreRow<accumulate_t>& below;
  int64_t pitch;
  int64_t first;  // local number of the first cell, and of its left node
  int64_t cells;  // at most a register's
  int64_t num_classes;
  bool on_nodes;  // whether some pixel reads only some of the corners

  CellCorners<accumulate_t> corners(int64_t c) const {
    const accumulate_t* a = above.scores + c * pitch + first;
    const accumulate_t* b = below.scores + c * pitch + first;
    return {{load_register(a), load_register(a + 1), load_register(b), load_register(b + 1)}};
  }
  // Nonzero where a corner is NaN or +infinity.
  Register<accumulate_t> unfit_lanes() const {
    const accumulate_t *a = above.unfit + first, *b = below.unfit + first;
    return (load_register(a) + load_register(a + 1)) + (load_register(b) + load_register(b + 1));
  }
};

// Lists the classes that may win a pixel of the group, in order; returns their number.
template <typename accumulate_t>
int64_t list_survivors(const CellGroup<accumulate_t>& group, int32_t* survivors) {
  using lanes_t = Register<accumulate_t>;
  using integers_t = Integers<accumulate_t>;
  using integer_t = typename IntegersOf<accumulate_t>::one;
  CellCorners<accumulate_t> best = group.corners(0);
  lanes_t best_sum = best.sum();
  integers_t best_class = {};
  for (int64_t c = 1; c < group.num_classes; ++c) {
    const CellCorners<accumulate_t> corner = group.corners(c);
    const lanes_t sum = corner.sum();
    const auto better = sum > best_sum;
    if (!any_lane(better)) {
      continue;
    }
    best_sum = better ? sum : best_sum;
    best_class = better ? integers_t{} + static_cast<integer_t>(c) : best_class;
    for (int k = 0; k < 4; ++k) {
      best.at[k] = better ? corner.at[k] : best.at[k];
    }
  }
  integers_t present = {};
  for (int64_t lane = 0; lane < group.cells; ++lane) {
    present[lane] = -1;
  }
  int64_t count = 0;
  for (int64_t c = 0; c < group.num_classes; ++c) {
    const CellCorners<accumulate_t> corner = group.corners(c);
    const auto as_high = (corner.at[0] >= best.at[0]) | (corner.at[1] >= best.at[1]) |
                         (corner.at[2] >= best.at[2]) | (corner.at[3] >= best.at[3]);
    if (!any_lane(as_high & present)) {
      continue;
    }
    const auto above = (corner.at[0] > best.at[0]) | (corner.at[1] > best.at[1]) |
                       (corner.at[2] > best.at[2]) | (corner.at[3] > best.at[3]);
    bool survives = any_lane(above & present);
    if (!survives) {
      const integers_t equal[4] = {corner.at[0] == best.at[0], corner.at[1] == best.at[1],
                                   corner.at[2] == best.at[2], corner.at[3] == best.at[3]};
      const integers_t level = group.on_nodes ? equal[0] | equal[1] | equal[2] | equal[3]
                                              : equal[0] & equal[1] & equal[2] & equal[3];
      const auto class_of_lanes = integers_t{} + static_cast<integer_t>(c);
      survives = any_lane(level & (class_of_lanes <= best_class) & present);
    }
    if (survives) {
      survivors[count++] = static_cast<int32_t>(c);
    }
  }
  return count;
}

// Whether all classes may be masked, and so equal, at some pixel of the group. If they are, so is
// the first survivor; where the only survivor is masked at a corner, all classes are.
template <typename accumulate_t>
bool may_be_masked(const CellGroup<accumulate_t>& group, const int32_t* survivors) {
  return any_lane(group.corners(survivors[0]).lowest() < kLeastBest<accumulate_t>);
}

// The weights of some rows and one column (phase) of the cells of a group.
template <typename accumulate_t>
struct ColumnWeights {
  const accumulate_t* row_lower;
  const accumulate_t* row_upper;
  Register<accumulate_t> x_lower, x_upper;

  // Rows from `row` on; `at`: the first lane's index in the tables of phases.
  ColumnWeights(const CellAxis& y, const CellAxis& x, int64_t row, int64_t at)
      : row_lower(static_cast<const accumulate_t*>(y.lower) + row),
        row_upper(static_cast<const accumulate_t*>(y.upper) + row),
        x_lower(load_register(static_cast<const accumulate_t*>(x.phase_lower) + at)),
        x_upper(load_register(static_cast<const accumulate_t*>(x.phase_upper) + at)) {}
};

// Calls visit(row, score) with the scores of a class in one column of cells.
template <int rows, typename accumulate_t, typename Visit>
inline void column_scores(const CellGroup<accumulate_t>& group,
                          const ColumnWeights<accumulate_t>& weight, int64_t c,
                          const Visit& visit) {
  using lanes_t = Register<accumulate_t>;
  const CellCorners<accumulate_t> corner = group.corners(c);
  const lanes_t above = weight.x_lower * corner.at[0] + weight.x_upper * corner.at[1];
  const lanes_t below = weight.x_lower * corner.at[2] + weight.x_upper * corner.at[3];
#pragma GCC unroll 8
  for (int k = 0; k < rows; ++k) {
    visit(k, weight.row_lower[k] * above + weight.row_upper[k] * below);
  }
}

// The greatest score of some classes in one column of cells, and its class; the first if equal.
template <int rows, typename accumulate_t>
inline void greatest(const CellGroup<accumulate_t>& group,
                     const ColumnWeights<accumulate_t>& weight, const int32_t* classes,
                     int64_t count, Register<accumulate_t>* best_of_rows,
                     Integers<accumulate_t>* class_of_rows) {
  using lanes_t = Register<accumulate_t>;
  using integers_t = Integers<accumulate_t>;
  using integer_t = typename IntegersOf<accumulate_t>::one;
  lanes_t best[rows];
  integers_t winner[rows];
  column_scores<rows>(group, weight, classes[0], [&](int k, const lanes_t& value) {
    best[k] = value;
    winner[k] = integers_t{} + static_cast<integer_t>(classes[0]);
  });
  for (int64_t j = 1; j < count; ++j) {
    const integers_t label = integers_t{} + static_cast<integer_t>(classes[j]);
    column_scores<rows>(group, weight, classes[j], [&](int k, const lanes_t& value) {
      const auto better = value > best[k];
      winner[k] = better ? label : winner[k];
      best[k] = larger(value, best[k]);
    });
  }
  for (int k = 0; k < rows; ++k) {
    best_of_rows[k] = best[k];
    class_of_rows[k] = winner[k];
  }
}

// sums[k] = sum over all classes of exp(score - best).
template <int rows, typename accumulate_t>
inline void sum_exponentials(const CellGroup<accumulate_t>& group,
                             const ColumnWeights<accumulate_t>& weight,
                             const Register<accumulate_t>* best, Register<accumulate_t>* sums) {
  using lanes_t = Register<accumulate_t>;
  for (int k = 0; k < rows; ++k) {
    sums[k] = lanes_t{};
  }
  for (int64_t c = 0; c < group.num_classes; ++c) {
    column_scores<rows>(group, weight, c, [&](int k, const lanes_t& value) {
      sums[k] += exp2_lanes<accumulate_t>((value - best[k]) * static_cast<accumulate_t>(kLog2E));
    });
  }
}

}  // namespace
}  // namespace fcn_ext
