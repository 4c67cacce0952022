// Sums of 2^score and its square, over classes and over pixels. For kernels.cpp only.
//
// Like softmax/cpu/progressions.h and corner_sums.h, but classes have factors of their own: a
// second sum over classes has each power times its factor, and the gradient of a class is not one
// weight of the pixel times 2^score, but (A_c v + u) 2^score + 2 D_c v^2 (2^score)^2, where
// v = 1 / S.
#pragma once

#include "softmax/cpu/corner_sums.h"

namespace fcn_ext {
namespace {

// The functions here are not inlined: they are long, and every caller would compile them again.

// The factors of classes: A_c and, if squares are wanted, 2 D_c (else null).
template <typename accumulate_t>
struct ClassFactors {
  const accumulate_t* plain;
  const accumulate_t* squared;
};

// Sums for each pixel of a patch, [column * kMostRows + row].
template <typename accumulate_t>
struct PixelSums {
  Register<accumulate_t>* sum;      // of 2^score; then 1 / S, zero where the pixel does not count
  Register<accumulate_t>* plain;    // of A_c 2^score; then u
  Register<accumulate_t>* squared;  // of 2 D_c (2^score)^2; then 1 / S^2
};

template <int rows, bool squared, typename accumulate_t>
__attribute__((noinline)) void sum_weighted_powers(const Group<accumulate_t>& group,
                                                   const Patch<accumulate_t>& patch,
                                                   const ClassList<accumulate_t>& list,
                                                   const ClassFactors<accumulate_t>& factors,
                                                   const PixelSums<accumulate_t>& to) {
  using lanes_t = Register<accumulate_t>;
  for (int64_t column = 0; column < patch.columns; ++column) {
    lanes_t sum[rows] = {}, plain[rows] = {}, squares[rows] = {};
    for (int64_t j = 0; j < list.num_geometric; ++j) {
      const Progression<accumulate_t>& progression = list.progressions[j];
      const accumulate_t factor = factors.plain[list.geometric[j]];
      lanes_t power = list.running[2 * j];
      const lanes_t ratio = list.running[2 * j + 1];
      list.running[2 * j] = power * progression.value_step;
      list.running[2 * j + 1] = ratio * progression.ratio_step;
#pragma GCC unroll 8
      for (int k = 0; k < rows; ++k) {
        sum[k] += power;
        plain[k] += factor * power;
        if constexpr (squared) {
          squares[k] += factors.squared[list.geometric[j]] * (power * power);
        }
        if (k + 1 < rows) {
          power *= ratio;
        }
      }
    }
    for (int k = 0; k < rows; ++k) {
      to.sum[column * kMostRows + k] = sum[k];
      to.plain[column * kMostRows + k] = plain[k];
      if constexpr (squared) {
        to.squared[column * kMostRows + k] = squares[k];
      }
    }
  }
  for (int64_t j = 0; j < list.num_direct; ++j) {
    const int32_t c = list.direct[j];
    const Corners<accumulate_t> corner = group.corners(c);
    for (int64_t column = 0; column < patch.columns; ++column) {
      direct_column<rows>(corner, patch, column, [&](int k, const lanes_t& power) {
        const int64_t at = column * kMostRows + k;
        to.sum[at] += power;
        to.plain[at] += factors.plain[c] * power;
        if constexpr (squared) {
          to.squared[at] += factors.squared[c] * (power * power);
        }
      });
    }
  }
}

// Adds to probability[c] the sum over pixels of v 2^score, and to squares[c] that of v^2
// (2^score)^2; lanes = cells.
template <int rows, bool squared, typename accumulate_t>
__attribute__((noinline)) void add_probabilities(const Group<accumulate_t>& group,
                                                 const Patch<accumulate_t>& patch,
                                                 const ClassList<accumulate_t>& list,
                                                 const PixelSums<accumulate_t>& pixels,
                                                 Register<accumulate_t>* probability,
                                                 Register<accumulate_t>* squares) {
  using lanes_t = Register<accumulate_t>;
  for (int64_t j = 0; j < list.num_geometric; ++j) {
    const Progression<accumulate_t>& progression = list.progressions[j];
    lanes_t value = progression.value, ratio = progression.ratio;
    lanes_t total = {}, total_squares = {};
    for (int64_t column = 0; column < patch.columns; ++column) {
      const lanes_t* __restrict v = pixels.sum + column * kMostRows;
      lanes_t sum = v[rows - 1], square = {};
      if constexpr (squared) {
        square = pixels.squared[column * kMostRows + rows - 1];
      }
#pragma GCC unroll 8
      for (int k = rows - 2; k >= 0; --k) {
        sum = sum * ratio + v[k];
        if constexpr (squared) {
          square = square * (ratio * ratio) + pixels.squared[column * kMostRows + k];
        }
      }
      total += value * sum;
      if constexpr (squared) {
        total_squares += (value * value) * square;
      }
      value *= progression.value_step;
      ratio *= progression.ratio_step;
    }
    const int32_t c = list.geometric[j];
    probability[c] += total;
    if constexpr (squared) {
      squares[c] += total_squares;
    }
  }
  for (int64_t j = 0; j < list.num_direct; ++j) {
    const int32_t c = list.direct[j];
    const Corners<accumulate_t> corner = group.corners(c);
    for (int64_t column = 0; column < patch.columns; ++column) {
      direct_column<rows>(corner, patch, column, [&](int k, const lanes_t& power) {
        const lanes_t share = pixels.sum[column * kMostRows + k] * power;
        probability[c] += share;
        if constexpr (squared) {
          squares[c] += share * share;
        }
      });
    }
  }
}

// Adds the gradients of a patch to the corners of its cells.
template <int rows, bool squared, typename accumulate_t>
__attribute__((noinline)) void add_weighted_gradients(const Group<accumulate_t>& group,
                                                      const Patch<accumulate_t>& patch,
                                                      const ClassList<accumulate_t>& list,
                                                      const ClassFactors<accumulate_t>& factors,
                                                      const PixelSums<accumulate_t>& pixels,
                                                      const CornerSums<accumulate_t>& to) {
  using lanes_t = Register<accumulate_t>;
  const accumulate_t y_upper = patch.row_upper[0];
  for (int64_t j = 0; j < list.num_geometric; ++j) {
    const Progression<accumulate_t>& progression = list.progressions[j];
    const int32_t c = list.geometric[j];
    const accumulate_t factor = factors.plain[c];
    lanes_t value = progression.value, ratio = progression.ratio;
    CornerLanes<accumulate_t> corners;
    for (int64_t column = 0; column < patch.columns; ++column) {
      const lanes_t* __restrict v = pixels.sum + column * kMostRows;
      const lanes_t* __restrict u = pixels.plain + column * kMostRows;
      lanes_t sum = factor * v[rows - 1] + u[rows - 1], derivative = {};
#pragma GCC unroll 8
      for (int k = rows - 2; k >= 0; --k) {
        derivative = derivative * ratio + sum;
        sum = sum * ratio + (factor * v[k] + u[k]);
      }
      lanes_t all = value * sum;
      lanes_t below = y_upper * all;
      // Below a single row, the next may lie so far beyond the cell that its ratio overflows.
      if constexpr (rows > 1) {
        below += (patch.row_step * (value * ratio)) * derivative;
      }
      if constexpr (squared) {
        const lanes_t* __restrict vv = pixels.squared + column * kMostRows;
        const lanes_t twice = rows > 1 ? ratio * ratio : ratio;
        lanes_t square = vv[rows - 1], slope = {};
#pragma GCC unroll 8
        for (int k = rows - 2; k >= 0; --k) {
          slope = slope * twice + square;
          square = square * twice + vv[k];
        }
        const lanes_t scale = factors.squared[c] * (value * value);
        all += scale * square;
        below += (scale * y_upper) * square;
        if constexpr (rows > 1) {
          below += (patch.row_step * (scale * twice)) * slope;
        }
      }
      corners.add(all, below, load_register(patch.column_upper + column * patch.column_pitch));
      value *= progression.value_step;
      ratio *= progression.ratio_step;
    }
    corners.store(to, c, group.first);
  }
  for (int64_t j = 0; j < list.num_direct; ++j) {
    const int32_t c = list.direct[j];
    const Corners<accumulate_t> corner = group.corners(c);
    CornerLanes<accumulate_t> corners;
    for (int64_t column = 0; column < patch.columns; ++column) {
      lanes_t all = {}, below = {};
      direct_column<rows>(corner, patch, column, [&](int k, const lanes_t& power) {
        const int64_t at = column * kMostRows + k;
        lanes_t share = (factors.plain[c] * pixels.sum[at] + pixels.plain[at]) * power;
        if constexpr (squared) {
          share += factors.squared[c] * pixels.squared[at] * (power * power);
        }
        all += share;
        below += patch.row_upper[k] * share;
      });
      corners.add(all, below, load_register(patch.column_upper + column * patch.column_pitch));
    }
    corners.store(to, c, group.first);
  }
}

}  // namespace
}  // namespace fcn_ext
