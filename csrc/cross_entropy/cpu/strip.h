// The strip of an image that a unit of the CPU cross-entropy works on, and its pixels.
// For kernels.cpp only.
#pragma once

#include "cross_entropy/cpu/labels.h"

namespace fcn_ext {
namespace {

constexpr double kLn2 = 0.6931471805599453;
constexpr double kInf = __builtin_inf();

template <typename element_t>
struct Strip {
  using accumulate_t = AccumulateOf<element_t>;

  const CrossEntropyWork& work;
  Scores<element_t> input{};
  int64_t unit_index = 0;
  int64_t first_cell = 0, cells = 0;  // padded node first_cell has local number 0
  int64_t pitch;                      // of node rows
  LabelRows rows{};                   // the output rows at hand, of one cell row
  accumulate_t* pixel_weight;         // as rows.labels is laid out
  double* ln_sums;                    // the same: ln S of every pixel, for losses a pixel

  Strip(const CrossEntropyWork& given, Scratch& scratch)
      : work(given), pitch(given.strip_cells + kWidest) {
    int64_t widest = 0;
    for (int64_t q = 0; q <= work.x.nodes; q += work.strip_cells) {
      const int64_t columns = work.x.begin[q + cells_from(q)] - work.x.begin[q];
      widest = columns > widest ? columns : widest;
    }
    rows.pitch = padded(widest);
    rows.labels = scratch.take<int32_t>(kMostRows * rows.pitch);
    pixel_weight = scratch.take<accumulate_t>(kMostRows * rows.pitch);
    ln_sums = scratch.take<double>(
        work.result == CrossEntropyResult::kPixels ? kMostRows * rows.pitch : 0);
  }

  bool wants_gradient() const { return work.gradient != nullptr; }

  void start(int64_t unit) {
    const BilinearShape& shape = work.problem.shape;
    const PlaneStrides& strides = work.problem.input_strides;
    unit_index = unit;
    rows.image = unit / work.chunks;
    input = {static_cast<const element_t*>(work.input) + rows.image * strides.batch,
             strides,
             shape.y.input_size,
             shape.x.input_size,
             shape.channels,
             work.y.clamp};
  }

  void move_to(int64_t cell) {
    first_cell = cell;
    cells = cells_from(cell);
    rows.first_column = work.x.begin[cell];
    rows.columns = work.x.begin[cell + cells] - rows.first_column;
  }

  // Of the first pixel that `rows` names.
  const accumulate_t* pixel_grad() const {
    return static_cast<const accumulate_t*>(work.pixel_grad) +
           (rows.image * work.y.outputs + rows.first_row) * work.x.outputs + rows.first_column;
  }

  // pixel_weight = a_y of every pixel, times its own gradient where there is one.
  void weigh_pixels() {
    const auto* table = static_cast<const accumulate_t*>(work.lse_weight) + 1;
    for (int64_t k = 0; k < rows.rows; ++k) {
      const int32_t* __restrict label = rows.row(k);
      accumulate_t* __restrict weight = pixel_weight + k * rows.pitch;
      if (work.plain) {
        for (int64_t x = 0; x < rows.columns; ++x) {
          weight[x] = label[x] < 0 ? accumulate_t(0) : accumulate_t(1);
        }
      } else {
        for (int64_t x = 0; x < rows.columns; ++x) {
          weight[x] = table[label[x]];
        }
      }
      if (work.result == CrossEntropyResult::kPixelsGradient) {
        const accumulate_t* grad = pixel_grad() + k * work.x.outputs;
        for (int64_t x = 0; x < rows.columns; ++x) {
          weight[x] = label[x] < 0 ? accumulate_t(0) : weight[x] * grad[x];
        }
      }
    }
  }

 private:
  int64_t cells_from(int64_t cell) const {
    const int64_t left = work.x.nodes + 1 - cell;
    return left < work.strip_cells ? left : work.strip_cells;
  }
};

}  // namespace
}  // namespace fcn_ext
