// The labels' part of the CPU cross-entropy. A label's interpolation weights are integers over a
// common denominator, so what labels add to a node is a sum of integers: exact, and the same in any
// order. It gives the labels' part of the gradient and, multiplied by the scores of the nodes, of
// the loss; no pixel's own score is read. For kernels.cpp only.
#pragma once

#include "cross_entropy/cpu/kernels.h"
#include "target/cpu/pixel_labels.h"

namespace fcn_ext {
namespace {

// What labels add to the nodes of a row, per class: [c * pitch + i], times the denominators of the
// weights of both axes.
struct LabelSums {
  double* sums;
  int64_t pitch;
  uint8_t* touched;  // [c]: zero if row c is all zeros and not even cleared

  double* row(int32_t label) const {
    double* sum = sums + label * pitch;
    if (touched[label] == 0) {
      touched[label] = 1;
      for (int64_t i = 0; i < pitch; ++i) {
        sum[i] = 0;
      }
    }
    return sum;
  }
};

// Adds the labels of `rows` to the node rows above and below their cell row. Runs of one label are
// added in one step: within a cell, neighboring columns whose label does not change over the rows;
// in other columns, the runs of each row.
struct LabelSplat {
  const CellAxis& y;
  const CellAxis& x;
  const PixelRows& rows;
  const LabelSums& above;
  const LabelSums& below;
  int64_t* counts;  // [c]

  // Adds columns [begin, end) of cell `cell` (the local number of its left node), in num_rows rows
  // whose weights add up to row_lower and row_upper.
  void add(int64_t cell, int64_t begin, int64_t end, int32_t label, double row_lower,
           double row_upper, int64_t num_rows) const {
    double upper = 0;
    for (int64_t column = begin; column < end; ++column) {
      upper += x.upper_part[rows.first_column + column];
    }
    const double lower = static_cast<double>(end - begin) * x.whole - upper;
    double* at = above.row(label) + cell;
    at[0] += row_lower * lower;
    at[1] += row_lower * upper;
    at = below.row(label) + cell;
    at[0] += row_upper * lower;
    at[1] += row_upper * upper;
    counts[label] += (end - begin) * num_rows;
  }

  void add_row(int64_t cell, int64_t begin, int64_t end, int64_t k) const {
    const int32_t* label = rows.row(k);
    const double upper = y.upper_part[rows.first_row + k];
    for (int64_t run = begin; run < end;) {
      int64_t run_end = run + 1;
      while (run_end < end && label[run_end] == label[run]) {
        ++run_end;
      }
      if (label[run] >= 0) {
        add(cell, run, run_end, label[run], y.whole - upper, upper, 1);
      }
      run = run_end;
    }
  }

  // Adds cells [first_cell, end_cell); first_cell has local number 0. `differs` [columns]: scratch.
  void run(int64_t first_cell, int64_t end_cell, int32_t* __restrict differs) const {
    const int32_t* __restrict top = rows.row(0);
    for (int64_t column = 0; column < rows.columns; ++column) {
      differs[column] = 0;
    }
    double upper = 0;
    for (int64_t k = 0; k < rows.rows; ++k) {
      upper += y.upper_part[rows.first_row + k];
      const int32_t* __restrict label = rows.row(k);
      for (int64_t column = 0; column < rows.columns; ++column) {
        differs[column] |= label[column] ^ top[column];
      }
    }
    const double lower = static_cast<double>(rows.rows) * y.whole - upper;
    for (int64_t q = first_cell; q < end_cell; ++q) {
      const int64_t end = x.begin[q + 1] - rows.first_column;
      for (int64_t run = x.begin[q] - rows.first_column; run < end;) {
        const bool mixed = differs[run] != 0;
        int64_t run_end = run + 1;
        while (run_end < end && (differs[run_end] != 0) == mixed &&
               (mixed || top[run_end] == top[run])) {
          ++run_end;
        }
        if (mixed) {
          for (int64_t k = 0; k < rows.rows; ++k) {
            add_row(q - first_cell, run, run_end, k);
          }
        } else if (top[run] >= 0) {
          add(q - first_cell, run, run_end, top[run], lower, upper, rows.rows);
        }
        run = run_end;
      }
    }
  }

  // Like run(), with a weight for every pixel; `weight` points to that of the first.
  template <typename accumulate_t>
  void run_weighted(int64_t first_cell, int64_t end_cell, const accumulate_t* weight) const {
    for (int64_t k = 0; k < rows.rows; ++k) {
      const int32_t* label = rows.row(k);
      const double row_upper = y.upper_part[rows.first_row + k];
      for (int64_t q = first_cell; q < end_cell; ++q) {
        for (int64_t output = x.begin[q]; output < x.begin[q + 1]; ++output) {
          const int64_t column = output - rows.first_column;
          if (label[column] < 0) {
            continue;
          }
          const auto own = static_cast<double>(weight[k * x.outputs + column]);
          const double upper = own * x.upper_part[output];
          const double lower = own * x.whole - upper;
          double* at = above.row(label[column]) + q - first_cell;
          at[0] += (y.whole - row_upper) * lower;
          at[1] += (y.whole - row_upper) * upper;
          at = below.row(label[column]) + q - first_cell;
          at[0] += row_upper * lower;
          at[1] += row_upper * upper;
        }
      }
    }
  }
};

}  // namespace
}  // namespace fcn_ext
