// What the pixels of a group add to the gradients of the nodes around their cells, per class.
//
// A column needs the sums of u_k r^k and of k u_k r^k: Horner's scheme and its derivative.
#pragma once

#include "softmax/cpu/progressions.h"

namespace fcn_ext {
namespace {

// Sums over pixels of u * 2^score, split between the four corners, for [c * pitch + cell]; lanes =
// cells.
template <typename accumulate_t>
struct CornerSums {
  accumulate_t* above_left;
  accumulate_t* above_right;
  accumulate_t* below_left;
  accumulate_t* below_right;
  int64_t pitch;
};

template <typename accumulate_t>
inline void add_lanes(accumulate_t* to, const Register<accumulate_t>& lanes) {
  store_register(to, load_register(to) + lanes);
}

// all: the sum of u 2^score over a column's rows; below: the same, times each row's upper weight.
template <typename accumulate_t>
struct CornerLanes {
  using lanes_t = Register<accumulate_t>;
  lanes_t all = {}, all_right = {}, below = {}, below_right = {};

  inline void add(const lanes_t& column_all, const lanes_t& column_below, const lanes_t& x_upper) {
    all += column_all;
    below += column_below;
    all_right += x_upper * column_all;
    below_right += x_upper * column_below;
  }
  inline void store(const CornerSums<accumulate_t>& to, int64_t c, int64_t cell) const {
    const int64_t at = c * to.pitch + cell;
    const lanes_t below_left = below - below_right, above_right = all_right - below_right;
    add_lanes(to.below_left + at, below_left);
    add_lanes(to.below_right + at, below_right);
    add_lanes(to.above_left + at, (all - all_right) - below_left);
    add_lanes(to.above_right + at, above_right);
  }
};

// u[column * kMostRows + row]: the pixel's weight over its sum; zero where the pixel is ignored.
template <int rows, typename accumulate_t>
void add_gradients(const Group<accumulate_t>& group, const Patch<accumulate_t>& patch,
                   const ClassList<accumulate_t>& list, const Register<accumulate_t>* u,
                   const CornerSums<accumulate_t>& sums) {
  using lanes_t = Register<accumulate_t>;
  const accumulate_t y_upper = patch.row_upper[0];
  for (int64_t j = 0; j < list.num_geometric; ++j) {
    const Progression<accumulate_t>& progression = list.progressions[j];
    lanes_t value = progression.value, ratio = progression.ratio;
    CornerLanes<accumulate_t> corners;
    for (int64_t column = 0; column < patch.columns; ++column) {
      const lanes_t* __restrict weight = u + column * kMostRows;
      lanes_t sum = weight[rows - 1], derivative = {};
#pragma GCC unroll 8
      for (int k = rows - 2; k >= 0; --k) {
        derivative = derivative * ratio + sum;
        sum = sum * ratio + weight[k];
      }
      const lanes_t all = value * sum;
      lanes_t below = y_upper * all;
      // Below a single row, the next may lie so far beyond the cell that its ratio overflows.
      if constexpr (rows > 1) {
        below += (patch.row_step * (value * ratio)) * derivative;
      }
      corners.add(all, below, load_register(patch.column_upper + column * patch.column_pitch));
      value *= progression.value_step;
      ratio *= progression.ratio_step;
    }
    corners.store(sums, list.geometric[j], group.first);
  }
  for (int64_t j = 0; j < list.num_direct; ++j) {
    const Corners<accumulate_t> corner = group.corners(list.direct[j]);
    CornerLanes<accumulate_t> corners;
    for (int64_t column = 0; column < patch.columns; ++column) {
      lanes_t all = {}, below = {};
      direct_column<rows>(corner, patch, column, [&](int k, const lanes_t& power) {
        const lanes_t share = u[column * kMostRows + k] * power;
        all += share;
        below += patch.row_upper[k] * share;
      });
      corners.add(all, below, load_register(patch.column_upper + column * patch.column_pitch));
    }
    corners.store(sums, list.direct[j], group.first);
  }
}

}  // namespace
}  // namespace fcn_ext
