// The strip of an image that a unit works on, and the current pixel rows.
#pragma once

#include "cells/cpu/score_rows.h"
#include "softmax/cpu/work.h"

namespace fcn_ext {
namespace {

constexpr double kInf = __builtin_inf();

// Some rows of pixels of one cell row, in the columns of a strip. Arrays over these pixels are
// indexed [row * pitch + column - first_column].
struct PixelRows {
  int32_t* labels;  // negative where the pixel does not count
  int64_t pitch;
  int64_t image, first_row, rows, first_column, columns;

  const int32_t* row(int64_t k) const { return labels + k * pitch; }
};

template <typename accumulate_t>
struct Strip {
  const SoftmaxWork& work;
  Scores<accumulate_t> input{};
  int64_t unit_index = 0;
  int64_t first_cell = 0, cells = 0;  // padded node first_cell has local number 0
  int64_t pitch;                      // of node rows
  // The current pixels. The user of the engine fills in labels and weights.
  PixelRows rows{};
  accumulate_t* pixel_weight;  // zero where the pixel does not count
  double* ln_sums;             // ln S of every pixel that counts, if wanted

  Strip(const SoftmaxWork& given, Scratch& scratch)
      : work(given), pitch(given.strip_cells + kWidest) {
    int64_t widest = 0;
    for (int64_t q = 0; q <= work.x.nodes; q += work.strip_cells) {
      const int64_t columns = work.x.begin[q + cells_from(q)] - work.x.begin[q];
      widest = columns > widest ? columns : widest;
    }
    rows.pitch = padded(widest);
    rows.labels = scratch.take<int32_t>(kMostRows * rows.pitch);
    pixel_weight = scratch.take<accumulate_t>(kMostRows * rows.pitch);
    ln_sums = scratch.take<double>(work.ln_sums ? kMostRows * rows.pitch : 0);
  }

  bool wants_gradient() const { return work.gradient != nullptr; }

  void start(int64_t unit) {
    unit_index = unit;
    rows.image = unit / work.chunks;
    input = {work.input, work.shape, rows.image, work.y.clamp};
  }

  void move_to(int64_t cell) {
    first_cell = cell;
    cells = cells_from(cell);
    rows.first_column = work.x.begin[cell];
    rows.columns = work.x.begin[cell + cells] - rows.first_column;
  }

 private:
  int64_t cells_from(int64_t cell) const {
    const int64_t left = work.x.nodes + 1 - cell;
    return left < work.strip_cells ? left : work.strip_cells;
  }
};

}  // namespace
}  // namespace fcn_ext
