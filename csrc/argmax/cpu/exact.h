// One pixel in double, without reading nodes of weight zero: for scores that are NaN or infinite.
// For *kernels.cpp files only.
#pragma once

#include "cells/cpu/score_rows.h"

namespace fcn_ext {
namespace {

template <typename accumulate_t>
class ExactPixel {
 public:
  // The pixel (row, column) of the output, which lies in cell `cell` of cell row `cell_row`.
  ExactPixel(const Scores<accumulate_t>& scores, const CellAxis& y, const CellAxis& x,
             int64_t cell_row, int64_t cell, int64_t row, int64_t column)
      : input(scores), weight(y, x, row, column) {
    for (int i = 0; i < 4; ++i) {
      int64_t node_row = cell_row + i / 2, node_column = cell + i % 2;
      read[i] = weight.at[i] != 0 && input.locate(node_row, node_column);
      corner[i] = read[i] ? input.at(node_row, node_column) : 0;
    }
  }

  double score(int64_t c) const {
    double sum = 0;
    for (int i = 0; i < 4; ++i) {
      if (read[i]) {
        sum += weight.at[i] * static_cast<double>(input.score(corner[i], c));
      }
    }
    return sum;
  }

  // The first class with the greatest score; NaN counts as the greatest.
  int64_t winner() const {
    double best = score(0);
    int64_t winner = 0;
    for (int64_t c = 1; c < input.classes && best == best; ++c) {
      const double value = score(c);
      if (!(value <= best)) {
        best = value;
        winner = c;
      }
    }
    return winner;
  }

 private:
  const Scores<accumulate_t>& input;
  CornerWeights weight;
  int64_t corner[4];
  bool read[4];
};

}  // namespace
}  // namespace fcn_ext
